// `cluster image NAME PROGRAM FILE` makes an image of one program that needs no libraries, without a container engine.
// The program is all that the image holds. It is called as the image is, "pause" for pause:test, and runs as a user
// without rights. FILE is a Docker archive, as `ctr images import` and `cluster up --image` take it.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
)

func init() {
	components["image"] = runImage
}

func runImage(arguments []string) int {
	if len(arguments) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cluster image NAME:TAG PROGRAM FILE")
		return 2
	}
	if err := writeImage(arguments[0], arguments[1], arguments[2]); err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %s\n", err)
		return 1
	}
	return 0
}

// imageUser is who the program runs as.
const imageUser = "1000:1000"

// writeImage makes the archive. The same program gives the same archive.
func writeImage(name, program, file string) error {
	called, _, hasTag := strings.Cut(path.Base(name), ":")
	if !hasTag {
		return fmt.Errorf("the image's name needs a tag: %s", name)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := archive(entry{called, 0o755, binary}, entry{"tmp/", 0o1777, nil})
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/" + called},
			"Env":        []string{"PATH=/"},
			"User":       imageUser,
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config":   digest(config) + ".json",
		"RepoTags": []string{name},
		"Layers":   []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	whole, err := archive(entry{"manifest.json", 0o644, manifest}, entry{digest(config) + ".json", 0o644, config},
		entry{"layer.tar", 0o644, layer})
	if err != nil {
		return err
	}
	return os.WriteFile(file, whole, 0o644)
}

// entry is a file in an archive, or a folder if its name ends with a slash.
type entry struct {
	name string
	mode int64
	text []byte
}

func archive(entries ...entry) ([]byte, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, one := range entries {
		header := &tar.Header{Name: one.name, Mode: one.mode, Size: int64(len(one.text)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(one.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(one.text); err != nil {
			return nil, err
		}
	}
	return buffer.Bytes(), writer.Close()
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
