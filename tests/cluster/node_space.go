// The namespaces of a cluster with a real node: its processes, mounts and network are its own, and go with its first
// process. Three processes of this program make them:
//
//	up         outside; starts the next one in new namespaces, and cleans up what the kernel does not
//	node-init  the first process inside; mounts what must not be the machine's, and reaps what lost its parent
//	up         inside, told by --first; runs the cluster as it would without namespaces
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

func init() {
	components["node-init"] = runNodeInit
}

// ownFolders are those of the machine that the processes inside see as folders below the home folder: container
// runtimes write to all of them, and some of the paths cannot be changed.
var ownFolders = map[string]string{
	"/run":     "run",
	"/var/lib": "lib",
	"/var/log": "log",
}

// upInside runs `up` with the same arguments in new namespaces and gives its exit code.
func upInside(home string, arguments []string) (int, error) {
	if err := checkTools(); err != nil {
		return 1, err
	}
	home, err := filepath.Abs(home)
	if err != nil {
		return 1, err
	}
	for folder := range ownFolders {
		if strings.HasPrefix(home+"/", folder+"/") {
			return 1, fmt.Errorf("%s cannot be below %s, which a real node has for itself", home, folder)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// The kernel ends the first process when the thread that started it ends: this thread stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// When the first process is killed, the kernel kills all others inside before it is gone.
	command := exec.CommandContext(ctx, self, append([]string{"node-init", home}, arguments...)...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = command.Run()
	removeControlGroups(home)
	var ended *exec.ExitError
	switch {
	case err == nil || ctx.Err() != nil:
		return 0, nil
	case errors.As(err, &ended) && ended.Exited():
		// It has said why.
		return ended.ExitCode(), nil
	case ended != nil:
		return 1, fmt.Errorf("the first process of the namespaces ended: %w", err)
	default:
		return 1, fmt.Errorf("cannot make namespaces: %w", err)
	}
}

// removeControlGroups removes those of the containers that were killed. All else removes its own.
func removeControlGroups(home string) {
	tasks, _ := filepath.Glob(nodePath(home, "run", "containerd", "io.containerd.runtime.v2.task", "k8s.io", "*"))
	for _, task := range tasks {
		// One for each controller, or one for all.
		for _, pattern := range []string{"/sys/fs/cgroup/*/k8s.io/", "/sys/fs/cgroup/k8s.io/"} {
			groups, _ := filepath.Glob(pattern + filepath.Base(task))
			for _, group := range groups {
				_ = syscall.Rmdir(group)
			}
		}
	}
}

// nodePath is a path below the folder of the real node.
func nodePath(home string, parts ...string) string {
	return filepath.Join(append([]string{home, "node"}, parts...)...)
}

// runNodeInit is the first process inside. Its arguments are the home folder and those of `up`.
func runNodeInit(arguments []string) int {
	home, arguments := arguments[0], arguments[1:]
	code, err := nodeInit(home, arguments)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %s\n", err)
		return 1
	}
	return code
}

func nodeInit(home string, arguments []string) (int, error) {
	// This is still the machine's list of processes, where this one has the number that the tests need.
	first, err := os.Readlink("/proc/self")
	if err != nil {
		return 1, err
	}
	if err := mountOwn(home); err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	up, err := os.StartProcess(self, append([]string{self, "up", "--first", first}, arguments...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("cannot wait: %w", err)
		case pid == up.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == up.Pid:
			return 1, errors.New("`up` ended by signal " + strconv.Itoa(int(status.Signal())))
		}
	}
}

// mountOwn hides those folders of the machine that the node writes to.
func mountOwn(home string) error {
	// What is mounted from now on is seen by nobody outside.
	if err := mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE); err != nil {
		return err
	}
	for folder, name := range ownFolders {
		own := nodePath(home, name)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		if err := mount(own, folder, "", syscall.MS_BIND); err != nil {
			return err
		}
	}
	return mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC)
}

func mount(source, target, kind string, flags uintptr) error {
	if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", target, err)
	}
	return nil
}
