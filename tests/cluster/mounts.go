// What a node sees of the machine: its own /run, /var, /etc and /opt, its own part of every cgroup hierarchy, its own
// bpffs. All in the mount namespace of this process, so all of it goes with the node.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a kubelet insists on, as files that hide the machine's settings instead of changing them.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mountAll makes the node's view; what it holds besides the kernel's is in the directory.
func mountAll(directory string) error {
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	steps := []func() error{
		func() error { return overlays(directory) },
		func() error { return mount("tmpfs", "/run", "tmpfs", 0, "mode=755") },
		func() error { return mount("sysfs", "/sys", "sysfs", 0, "") },
		func() error { return mountCgroups(hierarchies) },
		func() error { return mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=700") },
		func() error { return hideSysctls("/run/sysctls") },
		// Containers are given what is mounted later too.
		func() error { return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// overlays keep what is written to the machine's directories in the node's own.
func overlays(directory string) error {
	for _, name := range []string{"var", "etc", "opt"} {
		upper, work := filepath.Join(directory, name), filepath.Join(directory, name+".work")
		if err := makeDirectories(upper, work); err != nil {
			return err
		}
		options := fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", name, upper, work)
		if err := mount("overlay", "/"+name, "overlay", 0, options); err != nil {
			return err
		}
	}
	// Not on the overlay: containerd's snapshots are overlays themselves, and the kernel stacks no more than two.
	for _, name := range []string{"kubelet", "containerd"} {
		own, place := filepath.Join(directory, "lib", name), filepath.Join("/var/lib", name)
		if err := makeDirectories(own, place); err != nil {
			return err
		}
		if err := mount(own, place, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

// A hierarchy of version 1 as mount options, and where it is below /sys/fs/cgroup; options are empty for version 2.
type hierarchy struct{ name, options string }

// cgroupHierarchies are those of the machine, from the mounts that this process still sees.
func cgroupHierarchies() ([]hierarchy, error) {
	file, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var found []hierarchy
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[1], "/sys/fs/cgroup") {
			continue
		}
		name, _ := filepath.Rel("/sys/fs/cgroup", fields[1])
		switch fields[2] {
		case "cgroup":
			found = append(found, hierarchy{name, versionOneOptions(fields[3])})
		case "cgroup2":
			found = append(found, hierarchy{name, ""})
		}
	}
	return found, lines.Err()
}

// versionOneOptions keeps the controllers or the name, of all mount options.
func versionOneOptions(all string) string {
	var kept []string
	for _, option := range strings.Split(all, ",") {
		switch {
		case strings.HasPrefix(option, "name="):
			kept = append(kept, "none", option)
		case option == "rw", option == "ro", option == "xattr", option == "relatime", option == "clone_children",
			strings.HasPrefix(option, "no"), strings.HasPrefix(option, "release_agent="):
		default:
			kept = append(kept, option)
		}
	}
	return strings.Join(kept, ",")
}

// mountCgroups mounts them anew: in a cgroup namespace that shows the node's part alone.
func mountCgroups(hierarchies []hierarchy) error {
	if len(hierarchies) == 1 && hierarchies[0].name == "." {
		if err := mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
			return err
		}
		return leaveRoot("/sys/fs/cgroup")
	}
	if err := mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, it := range hierarchies {
		kind := "cgroup"
		if it.options == "" {
			kind = "cgroup2"
		}
		place := filepath.Join("/sys/fs/cgroup", it.name)
		if err := makeDirectories(place); err != nil {
			return err
		}
		if err := mount(kind, place, kind, 0, it.options); err != nil {
			return err
		}
	}
	return nil
}

// leaveRoot moves this process down: version 2 hands no controller from a cgroup that holds processes to those below.
func leaveRoot(root string) error {
	own := filepath.Join(root, "init")
	if err := makeDirectories(own); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("0"), 0o644)
}

func hideSysctls(directory string) error {
	for key, value := range sysctls {
		file := filepath.Join(directory, key)
		if err := makeDirectories(filepath.Dir(file)); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := mount(file, filepath.Join("/proc/sys", key), "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, place, kind string, flags uintptr, options string) error {
	if err := unix.Mount(source, place, kind, flags, options); err != nil {
		return fmt.Errorf("cannot mount %s %q at %s (%s): %w", kind, source, place, options, err)
	}
	return nil
}

func makeDirectories(paths ...string) error {
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}
