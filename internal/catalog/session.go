package catalog

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"shale/internal/blockstore"
)

// A session is one connection to PostgreSQL, as database/sql sees it. It takes
// queries as they are written for SQLite.
type session struct {
	*stdlib.Conn
	postgres *postgres
	writes   bool
}

// numbers keeps what numbered has made: there are about a hundred queries.
var numbers sync.Map // string → string

// numbered gives the query with its parameters as PostgreSQL writes them: $1
// for ?1, and for ? the number after the greatest so far.
func numbered(query string) string {
	if made, found := numbers.Load(query); found {
		return made.(string)
	}
	var b strings.Builder
	greatest, quoted := 0, false
	for i := 0; i < len(query); i++ {
		c := query[i]
		if c == '\'' {
			quoted = !quoted
		}
		if c != '?' || quoted {
			b.WriteByte(c)
			continue
		}
		end := i + 1
		for end < len(query) && query[end] >= '0' && query[end] <= '9' {
			end++
		}
		number, err := strconv.Atoi(query[i+1 : end])
		if err != nil {
			number = greatest + 1
		}
		greatest = max(greatest, number)
		fmt.Fprintf(&b, "$%d", number)
		i = end - 1
	}
	numbers.Store(query, b.String())
	return b.String()
}

// text gives a text as PostgreSQL can keep it: it has no character zero, and
// nothing that is no UTF-8.
func text(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\u2400")
}

// CheckNamedValue implements driver.NamedValueChecker.
func (s *session) CheckNamedValue(v *driver.NamedValue) error {
	v.Value = plain(v.Value)
	return nil
}

func plain(v any) any {
	switch t := v.(type) {
	case string:
		return text(t)
	case *string:
		if t == nil {
			return nil
		}
		return text(*t)
	}
	return v
}

// PrepareContext implements driver.ConnPrepareContext.
func (s *session) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	query = numbered(query)
	stmt, err := s.Conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &statement{stmt.(*stdlib.Stmt), s, query}, nil
}

// ExecContext implements driver.ExecerContext.
func (s *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return s.Conn.ExecContext(ctx, numbered(query), args)
}

// QueryContext implements driver.QueryerContext.
func (s *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return s.Conn.QueryContext(ctx, numbered(query), args)
}

// BeginTx implements driver.ConnBeginTx. A transaction of the server's begins
// with its mark, which only whoever has the epoch can leave, in the same round
// trip.
func (s *session) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	epoch := s.postgres.epoch.Load()
	if !s.writes || epoch == 0 {
		return s.Conn.BeginTx(ctx, o)
	}
	results, err := s.Conn.Conn().PgConn().Exec(ctx,
		fmt.Sprintf("BEGIN; UPDATE writer SET mark = mark + 1 WHERE epoch = %d RETURNING mark", epoch)).ReadAll()
	if s.Conn.Conn().IsClosed() { // and nothing has happened: another connection may do
		return nil, driver.ErrBadConn
	}
	t := &transaction{session: s, epoch: epoch}
	if err == nil && len(results) == 2 && len(results[1].Rows) == 1 {
		if t.mark, err = strconv.ParseInt(string(results[1].Rows[0][0]), 10, 64); err == nil {
			return t, nil
		}
	}
	if err == nil {
		err = &ReplacedError{s.postgres.name}
	}
	return nil, errors.Join(err, t.Rollback())
}

// A transaction is one of the server's. Its mark is what the row of writer has
// if, and only if, it is the last one that was committed in its epoch. (Its
// number in PostgreSQL would not do: after a crash that has lost a transaction
// the number is given to another.)
type transaction struct {
	session     *session
	epoch, mark int64
}

// endTime bounds COMMIT and ROLLBACK.
const endTime = 2 * time.Minute

// Rollback implements driver.Tx.
func (t *transaction) Rollback() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	_, err := t.session.Conn.Conn().Exec(ctx, "ROLLBACK")
	return err
}

// Commit implements driver.Tx. If the answer is lost it asks what became of
// the transaction. An error that is ErrRolledBack changed nothing, and after
// an *UnknownError nobody knows.
func (t *transaction) Commit() error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	tag, err := t.session.Conn.Conn().Exec(ctx, "COMMIT")
	if err == nil && tag.String() == "COMMIT" {
		return nil
	}
	if err == nil {
		err = pgx.ErrTxCommitRollback
	}
	return t.session.postgres.settle(t, err)
}

// settle finds out what became of a transaction whose commit failed with the
// cause, waiting for the database to be back if it has to.
func (p *postgres) settle(t *transaction, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.settleTime)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		committed, err := p.committed(ctx, t)
		switch {
		case err == nil && committed:
			return nil
		case err == nil:
			return fmt.Errorf("%w: %w", blockstore.ErrRolledBack, cause)
		case errors.Is(err, errForgotten):
			return &UnknownError{cause, err}
		}
		select {
		case <-ctx.Done():
			return &UnknownError{cause, err}
		case <-time.After(wait):
		}
	}
}

// errForgotten says that two servers or more have taken over since.
var errForgotten = errors.New("the database does not know it any more")

// committed asks, over a connection of its own, whether a transaction that has
// ended, or is ending, was committed. FOR UPDATE waits for its end. No other of
// the epoch has begun since, for there is one writer and it waits for the answer.
func (p *postgres) committed(ctx context.Context, t *transaction) (bool, error) {
	conn, err := pgx.ConnectConfig(ctx, p.config)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	var epoch, mark, last int64
	if err := conn.QueryRow(ctx, `SELECT epoch, mark, last_mark FROM writer FOR UPDATE`).Scan(&epoch, &mark, &last); err != nil {
		return false, err
	}
	switch epoch {
	case t.epoch:
		return mark == t.mark, nil
	case t.epoch + 1:
		return last == t.mark, nil
	}
	return false, errForgotten
}

// A statement is one that is prepared.
type statement struct {
	*stdlib.Stmt
	session *session
	query   string
}

// NumInput implements driver.Stmt: PostgreSQL counts the arguments.
func (s *statement) NumInput() int { return -1 }

// CheckNamedValue implements driver.NamedValueChecker.
func (s *statement) CheckNamedValue(v *driver.NamedValue) error { return s.session.CheckNamedValue(v) }

// A bulk is the only argument of a statement that is to run once for each row
// of them.
type bulk struct {
	rows     [][]any
	affected []int64 // filled in: rows changed
}

// ExecContext implements driver.StmtExecContext.
func (s *statement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 1 {
		if b, ok := args[0].Value.(*bulk); ok {
			return driver.RowsAffected(0), s.execAll(ctx, b)
		}
	}
	return s.Stmt.ExecContext(ctx, args)
}

func (s *statement) execAll(ctx context.Context, b *bulk) (err error) {
	if len(b.rows) == 0 {
		return nil
	}
	var batch pgx.Batch
	for _, row := range b.rows {
		for i := range row {
			row[i] = plain(row[i])
		}
		batch.Queue(s.query, row...)
	}
	results := s.session.Conn.Conn().SendBatch(ctx, &batch)
	defer func() { err = errors.Join(err, results.Close()) }()
	b.affected = make([]int64, len(b.rows))
	for i := range b.rows {
		tag, err := results.Exec()
		if err != nil {
			return err
		}
		b.affected[i] = tag.RowsAffected()
	}
	return nil
}
