// The verb `node`: the first process of a node, in namespaces of its own that the caller made. It mounts what a node
// has, then keeps containerd and the kubelet running, as an init system would: one that ends is started again. What
// either says goes to DIRECTORY/NAME.log.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Between the end of a service and its next start.
const restartPause = time.Second

// For containerd to make its socket.
const patience = 30 * time.Second

const containerdSocket = "/run/containerd/containerd.sock"

// service is a program that is to run as long as the node does.
type service struct {
	name    string
	command []string
}

func node(arguments []string) error {
	flags := flag.NewFlagSet("cluster node", flag.ExitOnError)
	directory := flags.String("directory", "", "the node's files: configurations to read, data and logs to write")
	name := flags.String("name", "", "the node's name")
	address := flags.String("address", "", "the node's addresses, by commas")
	programs := flags.String("programs", "", "the directory of containerd, its shim and cni/")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(*name)); err != nil {
		return err
	}
	if err := mountAll(*directory); err != nil {
		return err
	}
	if err := installNetwork(*directory, *programs); err != nil {
		return err
	}
	if err := os.Setenv("PATH", *programs+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(*directory, name) }
	init := &initSystem{directory: *directory, running: map[int]service{}}
	if err := init.start(service{"containerd", []string{"containerd", "--config", file("containerd.toml")}}); err != nil {
		return err
	}
	if err := waitFor(containerdSocket); err != nil {
		return err
	}
	kubelet := []string{own, "kubelet", "--config", file("kubelet.json"), "--kubeconfig", file("kubeconfig"),
		"--hostname-override", *name, "--node-ip", *address}
	if err := init.start(service{"kubelet", kubelet}); err != nil {
		return err
	}
	return init.reap()
}

// installNetwork puts the CNI's plugins and configuration, and the resolver's, where runtimes look for them.
func installNetwork(directory, programs string) error {
	if err := makeDirectories("/opt/cni/bin", "/etc/cni/net.d"); err != nil {
		return err
	}
	if err := mount(filepath.Join(programs, "cni"), "/opt/cni/bin", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for from, to := range map[string]string{"cni.conflist": "/etc/cni/net.d/10-lab.conflist", "resolv.conf": "/run/resolv.conf"} {
		text, err := os.ReadFile(filepath.Join(directory, from))
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// initSystem knows which process is which service.
type initSystem struct {
	directory string
	running   map[int]service
}

func (i *initSystem) start(s service) error {
	log, err := os.OpenFile(filepath.Join(i.directory, s.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(s.command[0], s.command[1:]...)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", s.name, err)
	}
	i.running[command.Process.Pid] = s
	return nil
}

// reap waits for every process that ends, orphans of containers included, and starts services again.
func (i *initSystem) reap() error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("nothing runs any more: %w", err)
		}
		s, known := i.running[pid]
		if !known {
			continue
		}
		delete(i.running, pid)
		fmt.Fprintf(os.Stderr, "%s ended (%s): started again\n", s.name, describe(status))
		time.Sleep(restartPause)
		if err := i.start(s); err != nil {
			return err
		}
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

func waitFor(path string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is not there after %s", path, patience)
}
