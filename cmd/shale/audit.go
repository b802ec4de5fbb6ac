package main

import (
	"io"
	"log/slog"
	"os/signal"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"shale/internal/audit"
)

// maxAuditKeep is the most full files of the audit that are kept.
const maxAuditKeep = 1000

// auditStdout is what --audit says for stdout.
const auditStdout = "-"

func (c *serveCmd) checkAudit() error {
	if c.AuditData && c.Audit == "" {
		return usagef("--audit-data says what --audit FILE is to hold: add that")
	}
	if c.Audit != "" && (c.AuditKeep < 1 || c.AuditKeep > maxAuditKeep) {
		return usagef("--audit-keep %d is not a number of files from 1 to %d", c.AuditKeep, maxAuditKeep)
	}
	return nil
}

// openAudit gives the trail that is asked for, nil for none, and what ends it.
func (c *serveCmd) openAudit(stdout io.Writer, log *slog.Logger, registry prometheus.Registerer) (*audit.Trail, func(), error) {
	o := audit.Options{Out: stdout, Data: c.AuditData, Logger: log, Registry: registry}
	switch c.Audit {
	case "":
		return nil, func() {}, nil
	case auditStdout:
		// Or the process would end with whoever reads its lines.
		signal.Ignore(unix.SIGPIPE)
		return audit.NewTrail(o), func() {}, nil
	}
	file, err := audit.OpenFile(c.Audit, c.AuditKeep, log)
	if err != nil {
		return nil, nil, err
	}
	o.Out = file
	return audit.NewTrail(o), func() {
		if err := file.Close(); err != nil {
			log.Error("the end of the audit file may not survive a crash of the machine", "err", err)
		}
	}, nil
}
