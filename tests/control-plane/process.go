// A component as a child process. It gets SIGKILL when this process dies, however that happens.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// How long a component may take to end by itself.
const grace = 5 * time.Second

// component is one program of the control plane: how it is started, and the process if it runs.
type component struct {
	name      string
	directory string
	arguments []string
	process   *exec.Cmd
	ended     chan struct{}
}

// start must be called on a thread that lives as long as this process: the kernel sends the signal of Pdeathsig when the thread that started the
// child ends, not the process.
func (c *component) start() error {
	if c.runs() {
		return fmt.Errorf("%s runs already", c.name)
	}
	program, first, err := c.program()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(program, append(first, c.arguments...)...)
	process.Dir = c.directory
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := process.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	c.process, c.ended = process, ended
	return nil
}

// program is the one of that name in KUBEBUILDER_ASSETS, or else this one: that set has no controllers.
func (c *component) program() (string, []string, error) {
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		program := filepath.Join(assets, c.name)
		if _, err := os.Stat(program); err == nil {
			return program, nil, nil
		}
	}
	own, err := os.Executable()
	return own, []string{c.name}, err
}

func (c *component) log() string {
	return filepath.Join(c.directory, c.name+".log")
}

func (c *component) runs() bool {
	if c.process == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// stop asks it to end, and after a while makes it.
func (c *component) stop() {
	c.signal(syscall.SIGTERM)
	if c.process == nil {
		return
	}
	select {
	case <-c.ended:
	case <-time.After(grace):
		c.kill()
	}
}

// kill ends it at once, as a crash would.
func (c *component) kill() {
	c.signal(syscall.SIGKILL)
	if c.process != nil {
		<-c.ended
	}
}

func (c *component) signal(signal syscall.Signal) {
	if !c.runs() {
		return
	}
	if err := c.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintf(os.Stderr, "cannot send %s to %s: %v\n", signal, c.name, err)
	}
}
