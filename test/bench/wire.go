package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// caller is one keep-alive connection that speaks just enough HTTP/1.1 to send requests that were written beforehand:
// the generator of the load shares the processors with what it measures, and must cost little.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

func dial(ctx context.Context, address string) (*caller, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, in: bufio.NewReaderSize(conn, 8<<10)}, nil
}

func (c *caller) close() { _ = c.conn.Close() }

// call sends a request and reads its answer, which must have a status of 2xx. What it gives is valid until the next
// call.
func (c *caller) call(request []byte) ([]byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(status) < 12 {
		return nil, fmt.Errorf("an answer begins with %q", status)
	}
	code := string(status[9:12])
	length, chunked, err := readHead(c.in)
	if err != nil {
		return nil, err
	}
	c.body = c.body[:0]
	if chunked {
		err = c.readChunks()
	} else {
		err = c.readBody(length)
	}
	if err == nil && code[0] != '2' {
		err = fmt.Errorf("an answer with status %s: %s", code, c.body)
	}
	return c.body, err
}

func (c *caller) readBody(n int) (err error) {
	c.body, err = appendFrom(c.body, c.in, n)
	return err
}

func (c *caller) readChunks() error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return err
		}
		if err := c.readBody(int(n)); err != nil {
			return err
		}
		if _, err := c.in.Discard(len("\r\n")); err != nil || n == 0 {
			return err
		}
	}
}

// readHead reads what is left of a head and says how long the body is.
func readHead(in *bufio.Reader) (length int, chunked bool, err error) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch {
		case len(name) == 0:
			return length, chunked, nil
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
}

// appendFrom appends n bytes to a buffer.
func appendFrom(buffer []byte, in io.Reader, n int) ([]byte, error) {
	from := len(buffer)
	if need := from + n; need > cap(buffer) {
		buffer = append(make([]byte, 0, 2*need), buffer...)
	}
	buffer = buffer[:from+n]
	_, err := io.ReadFull(in, buffer[from:])
	return buffer, err
}

// post writes a request with the body that the writer holds; headers are whole lines.
func (w *writer) post(path, headers string) []byte {
	buffer := append(w.request[:0], "POST "...)
	buffer = append(buffer, path...)
	buffer = append(buffer, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"...)
	buffer = append(buffer, headers...)
	buffer = append(buffer, "Content-Length: "...)
	buffer = strconv.AppendInt(buffer, int64(len(w.body)), 10)
	buffer = append(buffer, "\r\n\r\n"...)
	w.request = append(buffer, w.body...)
	return w.request
}

// get writes a request without a body. The target comes in two parts, the second a number.
func (w *writer) get(target string, number int, headers string) []byte {
	buffer := append(w.request[:0], "GET "...)
	buffer = append(buffer, target...)
	if number != 0 {
		buffer = strconv.AppendInt(buffer, int64(number), 10)
	}
	buffer = append(buffer, " HTTP/1.1\r\nHost: localhost\r\n"...)
	buffer = append(buffer, headers...)
	w.request = append(buffer, "\r\n"...)
	return w.request
}

// writer is the memory in which one client writes its requests.
type writer struct{ request, body []byte }

// work gives a client its next request, and nil when there are no more.
type work func(client int, w *writer) []byte

// callAll lets clients make calls until they have no more, each one after another on a connection of its own, and says
// how many were made and how long that took.
func callAll(ctx context.Context, address string, clients int, work work) (calls int, took time.Duration, err error) {
	callers := make([]*caller, clients)
	for i := range callers {
		if callers[i], err = dial(ctx, address); err != nil {
			return 0, 0, err
		}
		defer callers[i].close()
	}
	counts, errs := make([]int, clients), make([]error, clients)
	var running sync.WaitGroup
	began := time.Now()
	for i, c := range callers {
		running.Go(func() {
			var w writer
			for request := work(i, &w); request != nil && ctx.Err() == nil; request = work(i, &w) {
				if _, errs[i] = c.call(request); errs[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	running.Wait()
	took = time.Since(began)
	for _, n := range counts {
		calls += n
	}
	return calls, took, errors.Join(append(errs, ctx.Err())...)
}

// callFor lets clients make calls for a while and gives their rate.
func callFor(ctx context.Context, address string, clients int, d time.Duration, work work) (float64, error) {
	end := time.Now().Add(d)
	calls, took, err := callAll(ctx, address, clients, func(client int, w *writer) []byte {
		if !time.Now().Before(end) {
			return nil
		}
		return work(client, w)
	})
	return float64(calls) / took.Seconds(), err
}
