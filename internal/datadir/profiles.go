package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Client is what AWS's clients need to know to use a server, besides a key.
type Client struct {
	Region   string
	Endpoint string // URL
	CABundle string // file of the authority to trust; empty for the system's
}

// A Key gives the access key that an account has now. It is asked while the
// files are locked: whoever replaces a key writes the files afterwards, so
// nobody can write an older one over it.
type Key func() (id, secret string, err error)

// Files are the paths of the two files that tell AWS's clients about the
// server of a data folder.
type Files struct{ Credentials, Config string }

// FilesOf gives the paths of the files in the folder.
func FilesOf(dir string) Files {
	return Files{Credentials: filepath.Join(dir, "credentials"), Config: filepath.Join(dir, "config")}
}

// A profile is a section of the two files. Its name is another in each, but
// for the default.
type profile string

const defaultProfile profile = "default"

func (p profile) inCredentials() string { return string(p) }

func (p profile) inConfig() string {
	if p == defaultProfile {
		return string(p)
	}
	return "profile " + string(p)
}

// WriteClient writes the two files, readable by the owner only, each replaced
// as a whole and only if it changes. The default profile gets the key and c. Where
// there are profiles of the accounts, they get its region and endpoint, since
// the server may have moved. Nothing else in the files is touched.
func (d *Dir) WriteClient(c Client, key Key, accounts []string) error {
	return edit(d.path, func(credentials, config *sections) error {
		if err := credentials.setKey(defaultProfile, key); err != nil {
			return err
		}
		config.setServer(defaultProfile, c)
		for _, name := range accounts {
			if config.find(profile(name).inConfig()) != nil {
				config.setServer(profile(name), c)
			}
		}
		return nil
	})
}

// ErrNoServer says that a folder has no address of a server yet.
var ErrNoServer = errors.New("the server has not been started on this folder yet")

// CheckServer returns ErrNoServer if the folder's config names no server.
func CheckServer(dir string) error {
	text, err := readText(FilesOf(dir).Config)
	if err != nil {
		return err
	}
	return checkServer(parseSections(text))
}

func checkServer(config *sections) error {
	if s := config.find(defaultProfile.inConfig()); s == nil || s.get("endpoint_url") == "" {
		return ErrNoServer
	}
	return nil
}

// AddProfile writes the profile of an account with its key into the two files
// of the folder, in place of what it was, with the region and the endpoint that
// the default profile has. A server may run on the folder. The error is
// ErrNoServer before one ever has.
func AddProfile(dir, name string, key Key) error {
	return edit(dir, func(credentials, config *sections) error {
		if err := checkServer(config); err != nil {
			return err
		}
		server, p := config.find(defaultProfile.inConfig()), profile(name)
		if err := credentials.setKey(p, key); err != nil {
			return err
		}
		config.setServer(p, Client{
			Region: server.get("region"), Endpoint: server.get("endpoint_url"), CABundle: server.get("ca_bundle"),
		})
		return nil
	})
}

// HasBundle reports whether the folder's config names the authority of the
// server's certificate.
func HasBundle(dir string) (bool, error) {
	text, err := readText(FilesOf(dir).Config)
	if err != nil {
		return false, err
	}
	s := parseSections(text).find(defaultProfile.inConfig())
	return s != nil && s.get("ca_bundle") != "", nil
}

// HasProfile reports whether both of the folder's files have a profile of the
// name.
func HasProfile(dir, name string) (bool, error) {
	f, p := FilesOf(dir), profile(name)
	for path, section := range map[string]string{f.Credentials: p.inCredentials(), f.Config: p.inConfig()} {
		text, err := readText(path)
		if err != nil {
			return false, err
		}
		if parseSections(text).find(section) == nil {
			return false, nil
		}
	}
	return true, nil
}

// edit changes the two files. One process at a time does, the server or a
// command; the lock is the folder's own, as the files are replaced.
func edit(dir string, change func(credentials, config *sections) error) error {
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	f := FilesOf(dir)
	credentials, err := readText(f.Credentials)
	if err != nil {
		return err
	}
	config, err := readText(f.Config)
	if err != nil {
		return err
	}
	newCredentials, newConfig := parseSections(credentials), parseSections(config)
	if err := change(newCredentials, newConfig); err != nil {
		return err
	}
	return errors.Join(replace(f.Credentials, newCredentials.String()), replace(f.Config, newConfig.String()))
}

// readText reads a file; one that does not exist is empty.
func readText(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// sections are the sections of a file of AWS's clients, as lines, so that what
// others wrote stays as it is. The first has no name and holds what comes
// before all.
type sections struct{ list []*section }

type section struct {
	name  string
	lines []string // without the header
}

func parseSections(text string) *sections {
	current := &section{}
	s := &sections{[]*section{current}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "["); ok {
			if name, _, ok = strings.Cut(name, "]"); ok {
				current = &section{name: strings.TrimSpace(name)}
				s.list = append(s.list, current)
				continue
			}
		}
		current.lines = append(current.lines, line)
	}
	return s
}

func (s *sections) String() string {
	var b strings.Builder
	for _, section := range s.list {
		if section.name != "" {
			fmt.Fprintf(&b, "[%s]\n", section.name)
		}
		for _, line := range section.lines {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func (s *sections) find(name string) *section {
	for _, section := range s.list[1:] {
		if section.name == name {
			return section
		}
	}
	return nil
}

// ensure finds the section, or adds it at the end.
func (s *sections) ensure(name string) *section {
	if found := s.find(name); found != nil {
		return found
	}
	last := s.list[len(s.list)-1]
	if n := len(last.lines); last.name != "" && (n == 0 || last.lines[n-1] != "") {
		last.lines = append(last.lines, "")
	}
	added := &section{name: name}
	s.list = append(s.list, added)
	return added
}

func (s *sections) setKey(p profile, key Key) error {
	id, secret, err := key()
	if err != nil {
		return err
	}
	section := s.ensure(p.inCredentials())
	section.set("aws_access_key_id", id)
	section.set("aws_secret_access_key", secret)
	return nil
}

func (s *sections) setServer(p profile, c Client) {
	section := s.ensure(p.inConfig())
	section.set("region", c.Region)
	section.set("endpoint_url", c.Endpoint)
	if c.CABundle != "" {
		section.set("ca_bundle", c.CABundle)
	} else {
		section.remove("ca_bundle")
	}
}

// at gives the place of the line that sets the key, or -1. A line that begins
// with a blank belongs to the setting before it.
func (s *section) at(key string) int {
	for i, line := range s.lines {
		if name, _, ok := strings.Cut(line, "="); ok && strings.TrimRight(name, " \t") == key {
			return i
		}
	}
	return -1
}

func (s *section) get(key string) string {
	if i := s.at(key); i >= 0 {
		_, value, _ := strings.Cut(s.lines[i], "=")
		return strings.TrimSpace(value)
	}
	return ""
}

// remove takes the line of the key out, if there is one.
func (s *section) remove(key string) {
	if i := s.at(key); i >= 0 {
		s.lines = slices.Delete(s.lines, i, i+1)
	}
}

// set changes the line of the key, or adds it after the last that is not empty.
func (s *section) set(key, value string) {
	line := key + " = " + value
	if i := s.at(key); i >= 0 {
		s.lines[i] = line
		return
	}
	end := len(s.lines)
	for end > 0 && strings.TrimSpace(s.lines[end-1]) == "" {
		end--
	}
	s.lines = append(s.lines[:end], append([]string{line}, s.lines[end:]...)...)
}
