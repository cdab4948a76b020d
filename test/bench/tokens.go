package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/opencpm/opencpm/client"
)

// tokens measures how many tokens a second a job makes of everyone, in a file that is safe on the disk.
func (b *bench) tokens(ctx context.Context, s *store) error {
	bare, err := b.startYardstick("tokens", nil, s.kind, s.source, filepath.Join(b.dir, "tokens.csv"))
	if err != nil {
		return err
	}
	err = s.during(ctx, complete, func(v *server) error {
		figures, err := b.interleave(
			func() (float64, error) {
				return b.profiled(ctx, v, s.kind+"-tokens", func() (float64, error) { return s.tokenJob(ctx, v) })
			},
			func() (float64, error) {
				began := time.Now()
				err := bare.order(1)
				return float64(s.citizens) / time.Since(began).Seconds(), err
			},
		)
		if err != nil {
			return err
		}
		trip := row{Trip: "tokens for everyone, in a file", Unit: perSecond, Judged: ratio, Yardstick: "bare scan, HMAC and CSV", Goal: 0.50}
		b.add(s, trip.against(figures[0], figures[1]))
		return nil
	})
	return errors.Join(err, bare.stop())
}

// tokenJob makes tokens of everyone and gives their rate.
func (s *store) tokenJob(ctx context.Context, v *server) (rate float64, err error) {
	err = s.asClient(v, func(c *client.Client) error {
		job, err := c.CreateTokenJob(ctx, client.NewTokenJob{ApplicationID: application, ExpiryDate: time.Now().Add(time.Hour)})
		for err == nil && !job.Ended() {
			time.Sleep(10 * time.Millisecond)
			job, err = c.TokenJob(ctx, job.ID)
		}
		if err == nil && (job.State != "done" || job.Progress.Done != int64(s.citizens)) {
			err = fmt.Errorf("the job is %s after %d of %d citizens", job.State, job.Progress.Done, s.citizens)
		}
		rate = float64(s.citizens) / job.FinishedAt.Sub(job.CreatedAt).Seconds()
		return err
	})
	return rate, err
}

// writeTokens is the yardstick: KIND SOURCE FILE. Each time it is told to it reads the rows of all citizens, signs a token of
// each and writes the same lines to a file, safely. It opens nothing that is sealed: a number stands for the reference.
func writeTokens(args []string) error {
	s := store{kind: args[0], source: args[1]}
	db, err := s.open()
	if err != nil {
		return err
	}
	defer db.Close()
	fmt.Println("ready")
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		if err := writeTokensOnce(db, args[2]); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

func writeTokensOnce(db *sql.DB, path string) error {
	rows, err := db.QueryContext(context.Background(), `SELECT c.id, c.token_generation, c.public_id, c.details, k.wrapped FROM citizen c JOIN citizen_key k ON k.citizen = c.id
		WHERE c.deleted_at IS NULL ORDER BY c.id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	mac := hmac.New(sha256.New, make([]byte, 32))
	var claims [51]byte
	var sum [sha256.Size]byte
	var line []byte
	for rows.Next() {
		var citizen, generation int64
		var id, details, wrapped sql.RawBytes
		if err := rows.Scan(&citizen, &generation, &id, &details, &wrapped); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(claims[11:], uint64(citizen))
		mac.Reset()
		mac.Write(claims[:35])
		copy(claims[35:], mac.Sum(sum[:0]))
		line = append(line[:0], uuid.UUID(bytes.Clone(id)).String()...)
		line = fmt.Appendf(line, ",%s%d,ocpm_citizen_", refPrefix, citizen)
		line = base64.RawURLEncoding.AppendEncode(line, claims[:])
		line = append(line, ",,2026-12-22T09:30:00.000Z\r\n"...)
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return errors.Join(rows.Err(), out.Flush(), file.Sync())
}
