package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// A yardstick is a process of its own, like the server that it is held against: this program once more, told by its
// first argument to be one. It lives until its input ends.
const yardstickCommand = "yardstick"

// The yardsticks. Each says in one line when it is ready.
var yardsticks = map[string]func(args []string) error{
	"answer": serveAnswer, // ANSWER: answers every request by the bytes of a file, from memory
	"append": serveAppend, // ANSWER LOG: the same, once the body of the request is safe in a log
	"tokens": writeTokens, // KIND SOURCE FILE: for each line it is told, writes a file of tokens of all citizens
	"post":   postBody,    // URL BODY CONNECTIONS: for each number it is told, posts the bytes of a file so often
}

// runYardstick is the program when it is a yardstick.
func runYardstick(args []string) error {
	return yardsticks[args[0]](args[1:])
}

func serveAnswer(args []string) error {
	answer, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	return serveBare(func(w http.ResponseWriter, _ *http.Request) { writeAnswer(w, answer) })
}

func writeAnswer(w http.ResponseWriter, answer []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer) // whoever asks sees what went wrong
}

func serveAppend(args []string) error {
	answer, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	log, err := os.Create(args[1])
	if err != nil {
		return err
	}
	defer log.Close()
	queue := make(chan entry)
	go appendGroups(log, queue)
	return serveBare(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		e := entry{body, make(chan error, 1)}
		if err == nil {
			queue <- e
			err = <-e.safe
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		writeAnswer(w, answer)
	})
}

// entry is what waits to be safe on the disk.
type entry struct {
	body []byte
	safe chan error
}

// appendGroups writes what waits, makes it safe by one fsync and wakes those who waited.
func appendGroups(log *os.File, queue <-chan entry) {
	for first := range queue {
		group := []entry{first}
		for more := true; more; {
			select {
			case e := <-queue:
				group = append(group, e)
			default:
				more = false
			}
		}
		var text []byte
		for _, e := range group {
			text = append(text, e.body...)
		}
		_, err := log.Write(text)
		err = errors.Join(err, log.Sync())
		for _, e := range group {
			e.safe <- err
		}
	}
}

// serveBare serves on a free port, says where, and ends with the input of the process.
func serveBare(handler http.HandlerFunc) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(listener) }()
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, server.Close())
}

func postBody(args []string) error {
	body, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	connections, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}
	fmt.Println("ready")
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		n, err := strconv.ParseInt(orders.Text(), 10, 64)
		if err != nil {
			return err
		}
		var posts sync.WaitGroup
		var left atomic.Int64
		left.Store(n)
		errs := make([]error, connections)
		for i := range errs {
			posts.Go(func() {
				for left.Add(-1) >= 0 && errs[i] == nil {
					errs[i] = postOnce(transport, args[0], body)
				}
			})
		}
		posts.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		fmt.Println("done")
	}
	return nil
}

func postOnce(transport *http.Transport, url string, body []byte) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

// yardstick is a running one, seen from outside.
type yardstick struct {
	ready string // what it said when it was ready
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// startYardstick starts one that is given some bytes in a file where %s stands in its arguments.
func (b *bench) startYardstick(name string, content []byte, args ...string) (*yardstick, error) {
	file := filepath.Join(b.dir, name+".bytes")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "%s", file)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	y := &yardstick{cmd: exec.Command(self, append([]string{yardstickCommand, name}, args...)...)}
	y.cmd.Stderr = os.Stderr
	y.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if y.in, err = y.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := y.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	y.out = bufio.NewReader(out)
	if err := y.cmd.Start(); err != nil {
		return nil, err
	}
	if y.ready, err = y.line(); err != nil {
		return nil, errors.Join(err, y.stop())
	}
	return y, nil
}

func (y *yardstick) line() (string, error) {
	text, err := y.out.ReadString('\n')
	return strings.TrimSpace(text), err
}

// order tells it a number and waits until it is done.
func (y *yardstick) order(n int) error {
	_, err := fmt.Fprintln(y.in, n)
	if err == nil {
		_, err = y.line()
	}
	return err
}

// stop ends its input, and so the process.
func (y *yardstick) stop() error { return errors.Join(y.in.Close(), y.cmd.Wait()) }
