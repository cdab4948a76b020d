package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit in which Linux tells of processor time.
const tick = time.Second / 100

// processorTime is what the server and, where there is one, the whole database server have used until now.
func (s *store) processorTime(ctx context.Context, v *server) (time.Duration, error) {
	p, err := readProcess(v.cmd.Process.Pid)
	if err != nil || s.kind == sqlite {
		return p.used, err
	}
	database, err := s.b.databaseTime(ctx)
	return p.used + database, err
}

// databaseTime adds up the PostgreSQL processes: the one that started all others, what it says of those that have
// ended, and those that run.
func (b *bench) databaseTime(ctx context.Context) (time.Duration, error) {
	db, err := sql.Open("pgx", b.postgres)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var backend int
	if err := db.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return 0, err
	}
	ours, err := readProcess(backend)
	if err != nil {
		return 0, fmt.Errorf("the PostgreSQL server must be on this machine: %w", err)
	}
	postmaster, err := readProcess(ours.parent)
	if err != nil {
		return 0, err
	}
	used := postmaster.used + postmaster.ended
	list, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range list {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if p, err := readProcess(pid); err == nil && p.parent == ours.parent { // else it has ended meanwhile
			used += p.used
		}
	}
	return used, err
}

// usage is how much processor time there was on the machine until an instant.
type usage struct {
	all  time.Duration // used or not
	used time.Duration // by anybody
	ours time.Duration // by this run: the program, what it has started and waited for, the database server
}

func (b *bench) usage(ctx context.Context, databases []string) (u usage, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	// user, nice, system, idle, waiting, two sorts of interrupts, stolen; what follows is in user and nice already.
	for i, field := range strings.Fields(line)[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, err
		}
		u.all += time.Duration(n) * tick
		if i != 3 && i != 4 {
			u.used += time.Duration(n) * tick
		}
	}
	self, err := readProcess(os.Getpid())
	u.ours = self.used + self.ended
	if err == nil && slices.Contains(databases, postgres) {
		var database time.Duration
		database, err = b.databaseTime(ctx)
		u.ours += database
	}
	return u, err
}

// othersSince is the share of the machine's processors that others have used since.
func (u usage) othersSince(before usage) float64 {
	return max(0, float64((u.used-before.used)-(u.ours-before.ours))/float64(u.all-before.all))
}

// process is what /proc says of one.
type process struct {
	parent int
	used   time.Duration // by itself
	ended  time.Duration // by children that have ended
}

func readProcess(pid int) (p process, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	// The name stands in brackets and may hold anything; what follows are numbers, the state first.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var n [4]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(fields[11+i], 10, 64); err != nil {
			return p, err
		}
	}
	p.used, p.ended = time.Duration(n[0]+n[1])*tick, time.Duration(n[2]+n[3])*tick
	p.parent, err = strconv.Atoi(fields[1])
	return p, err
}
