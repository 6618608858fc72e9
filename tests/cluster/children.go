// The processes of a cluster: started so that none of them outlives this one, however it ends.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// children starts processes and ends them.
type children struct {
	logs   string // The folder of their logs.
	starts chan func()
	died   chan struct{} // Is closed when a process has ended without being asked to.

	lock    sync.Mutex
	running map[string]*child
	cause   error // Which process that was.
}

// child is one process.
type child struct {
	command *exec.Cmd
	ended   chan struct{} // Is closed when the process is gone.
	stopped bool          // Whether it was asked to end.
}

func newChildren(logs string) *children {
	family := &children{
		logs:    logs,
		starts:  make(chan func()),
		died:    make(chan struct{}),
		running: map[string]*child{},
	}
	// The kernel ends a child when the thread that started it ends, not the process: this thread stays.
	go func() {
		runtime.LockOSThread()
		for start := range family.starts {
			start()
		}
	}()
	return family
}

// log is where a child writes to.
func (family *children) log(name string) string {
	return filepath.Join(family.logs, name+".log")
}

// component starts a component of this program.
func (family *children) component(name string, arguments ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return family.start(name, exec.Command(self, append([]string{name}, arguments...)...))
}

// start runs a command as the child of that name.
func (family *children) start(name string, command *exec.Cmd) error {
	log, err := os.OpenFile(family.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	command.Stdout = log
	command.Stderr = log
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A signal for this program's group, as a terminal sends it, is not for them: this program ends them in order.
	command.SysProcAttr.Setpgid = true

	started := make(chan error)
	family.starts <- func() { started <- command.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	one := &child{command: command, ended: make(chan struct{})}
	family.lock.Lock()
	family.running[name] = one
	family.lock.Unlock()
	go family.wait(name, one)
	return nil
}

// wait reaps a child.
func (family *children) wait(name string, one *child) {
	_ = one.command.Wait()
	family.lock.Lock()
	defer family.lock.Unlock()
	if family.running[name] == one {
		delete(family.running, name)
	}
	close(one.ended)
	if !one.stopped && family.cause == nil {
		family.cause = fmt.Errorf("%s ended: %s; its log: %s", name, one.command.ProcessState, family.log(name))
		close(family.died)
	}
}

// death says which process has ended without being asked to.
func (family *children) death() error {
	family.lock.Lock()
	defer family.lock.Unlock()
	return family.cause
}

// stop kills a child, and is back when it is gone. It may not run any more.
func (family *children) stop(name string) {
	family.lock.Lock()
	one := family.running[name]
	if one != nil {
		one.stopped = true
		_ = one.command.Process.Kill()
	}
	family.lock.Unlock()
	if one != nil {
		<-one.ended
	}
}

// isRunning says whether there is a child of that name.
func (family *children) isRunning(name string) bool {
	family.lock.Lock()
	defer family.lock.Unlock()
	return family.running[name] != nil
}

// stopAll kills all children at once and waits until they are gone. Nothing they hold is needed afterwards.
func (family *children) stopAll() {
	family.lock.Lock()
	var all []*child
	for _, one := range family.running {
		one.stopped = true
		_ = one.command.Process.Kill()
		all = append(all, one)
	}
	family.lock.Unlock()
	for _, one := range all {
		<-one.ended
	}
}
