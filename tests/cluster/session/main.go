// Command session is what runs in the pods of a real node. It is a container's first process, and all of its image.
//
// Called `pause`, it sleeps: a pod's sandbox. Otherwise it is a session. It listens on the ports in PREVIEW_PORT,
// CHAT_PORT and VSCODE_PORT, and answers
//
//	GET                 with {"session": $SESSION_UUID, "service": "preview", "path": "/...", "host": "..."} in a line
//	PUT .../files/NAME  by writing the body to $WORKSPACE/NAME
//	GET .../files/NAME  with what is in that file
//	a websocket         by sending its messages back
//
// START_DELAY, as in "5s", is how long it waits before it listens. With EXIT_CODE it ends at once. At SIGTERM it ends
// with 0, also while it waits.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	if filepath.Base(os.Args[0]) == "pause" {
		<-told
		return
	}
	if code := os.Getenv("EXIT_CODE"); code != "" {
		number, err := strconv.Atoi(code)
		if err != nil {
			fail(fmt.Errorf("EXIT_CODE is no number: %s", code))
		}
		fmt.Println("ending as EXIT_CODE asks for")
		os.Exit(number)
	}
	go func() {
		if err := serve(); err != nil {
			fail(err)
		}
	}()
	<-told
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "session: %s\n", err)
	os.Exit(1)
}

// serve starts the services.
func serve() error {
	if delay := os.Getenv("START_DELAY"); delay != "" {
		duration, err := time.ParseDuration(delay)
		if err != nil {
			return fmt.Errorf("START_DELAY: %w", err)
		}
		time.Sleep(duration)
	}
	for _, service := range []string{"preview", "chat", "vscode"} {
		port := os.Getenv(strings.ToUpper(service) + "_PORT")
		if port == "" {
			continue
		}
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		fmt.Printf("%s listens on %s\n", service, port)
		go func() {
			if err := http.Serve(listener, handler(service)); err != nil {
				fail(err)
			}
		}()
	}
	return nil
}

// upgrader takes websockets from pages of any origin.
var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

// handler is one service.
func handler(service string) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		_, file, isFile := strings.Cut(request.URL.Path, "/files/")
		switch {
		case websocket.IsWebSocketUpgrade(request):
			echo(w, request)
		case isFile && request.Method == http.MethodPut:
			write(w, request, file)
		case isFile:
			read(w, file)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{
				"session": os.Getenv("SESSION_UUID"),
				"service": service,
				"path":    request.URL.RequestURI(),
				"host":    request.Host,
			})
		}
	}
}

// echo sends messages back until the other side closes.
func echo(w http.ResponseWriter, request *http.Request) {
	socket, err := upgrader.Upgrade(w, request, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	for {
		kind, message, err := socket.ReadMessage()
		if err != nil {
			return
		}
		if err := socket.WriteMessage(kind, message); err != nil {
			return
		}
	}
}

func write(w http.ResponseWriter, request *http.Request, file string) {
	body, err := io.ReadAll(request.Body)
	if err == nil {
		err = os.WriteFile(inWorkspace(file), body, 0o644)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func read(w http.ResponseWriter, file string) {
	text, err := os.ReadFile(inWorkspace(file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(text)
	}
}

// inWorkspace is the path of a file whose name may hold no folders.
func inWorkspace(name string) string {
	return filepath.Join(os.Getenv("WORKSPACE"), filepath.Base(name))
}
