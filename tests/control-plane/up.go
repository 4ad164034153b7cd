// The verb `up`: starts the control plane, prints one line of JSON when it serves, obeys lines on stdin, and ends with
// its caller. What it made is removed.
//
// Lines are `stop NAME`, `kill NAME` and `start NAME`, NAME being etcd, apiserver or controllers. Each is answered by a
// line of JSON, {"ok":true} or {"error":"..."}; `start apiserver` is answered once it is ready.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// plane is a control plane that runs.
type plane struct {
	options    *options
	components map[string]*component
	probe      *probe
	stop       <-chan string
}

// order of starting; stopping is the other way round.
var order = []string{"etcd", "apiserver", "controllers"}

func up(arguments []string) error {
	o, err := parseOptions(arguments)
	if err != nil {
		return err
	}
	stop := stopped()
	defer remove(o)
	if o.port, err = reserve(o.bindAddress, o.port); err != nil {
		return err
	}
	if err := writeFiles(o); err != nil {
		return err
	}
	p := &plane{options: o, stop: stop, components: map[string]*component{
		"etcd": etcd(o), "apiserver": apiserver(o), "controllers": controllerManager(o),
	}}
	defer p.end()
	if p.probe, err = newProbe(o); err != nil {
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(o.ready()); err != nil {
		return err
	}
	return p.obey()
}

func (p *plane) begin() error {
	for _, name := range order {
		if err := p.start(name); err != nil {
			return err
		}
	}
	return p.probe.wait(firstWork, p.components["controllers"], p.stop)
}

func (p *plane) start(name string) error {
	c := p.components[name]
	if err := c.start(); err != nil || name != "apiserver" {
		return err
	}
	err := p.probe.wait("/readyz", c, p.stop)
	// An API server that is not ready mostly tells of its database.
	if database := p.components["etcd"]; err != nil && !database.runs() {
		return fmt.Errorf("etcd ended:\n%s", tail(database.log()))
	}
	return err
}

// end is quick: nobody will read the data again.
func (p *plane) end() {
	for _, name := range order {
		p.components[name].kill()
	}
}

// obey reads lines until there is a reason to stop.
func (p *plane) obey() error {
	lines := make(chan string)
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			lines <- input.Text()
		}
		close(lines)
	}()
	for {
		select {
		case <-p.stop:
			return nil
		case line, open := <-lines:
			if !open {
				return nil
			}
			answer := map[string]any{"ok": true}
			if err := p.command(line); err != nil {
				answer = map[string]any{"error": err.Error()}
			}
			if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
				return err
			}
		}
	}
}

func (p *plane) command(line string) error {
	verb, name, _ := strings.Cut(strings.TrimSpace(line), " ")
	c, known := p.components[name]
	if !known {
		return fmt.Errorf("%q names no component: use %s", line, strings.Join(order, ", "))
	}
	switch verb {
	case "start":
		return p.start(name)
	case "stop":
		c.stop()
	case "kill":
		c.kill()
	default:
		return fmt.Errorf("%q is no command: use start, stop or kill", verb)
	}
	return nil
}

// stopped tells once why to stop: a signal, or the death of the parent. The latter is watched here and not left to
// PR_SET_PDEATHSIG, which would already fire when the thread of the parent that started this program ends.
func stopped() <-chan string {
	why := make(chan string, 1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	parent := os.Getppid()
	go func() {
		for {
			select {
			case received := <-signals:
				why <- received.String()
				return
			case <-time.After(200 * time.Millisecond):
				if os.Getppid() != parent {
					why <- "its parent ended"
					return
				}
			}
		}
	}()
	return why
}

// remove takes away what `up` made; of a directory that the caller named, the data alone.
func remove(o *options) {
	made := []string{o.path("etcd"), o.path(clientSocket), o.path(peerSocket)}
	if o.temporary {
		made = []string{o.directory}
	}
	for _, path := range made {
		if err := os.RemoveAll(path); err != nil {
			fmt.Fprintf(os.Stderr, "cannot remove %s: %v\n", path, err)
		}
	}
}
