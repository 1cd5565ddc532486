// Reads a log of ours with golang.org/x/mod/sumdb, which checks the Go module checksum database in every `go` command.
//
//	tlog VKEY LOG    LOG: a log folder with lines, tiles and `checkpoint`
//
// Opens the signed note, reads every line's hash through the tiles (each is checked against the signed root), and prints
// as JSON: origin, size, root, and the inclusion and consistency proofs that it makes of them.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type folder string

func (f folder) Height() int { return 8 }

func (f folder) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1) // C2SP leaves the height out
		found, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		data = append(data, found)
	}
	return data, nil
}

func (f folder) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	check(err)
	log := folder(os.Args[2])
	signed, err := os.ReadFile(filepath.Join(string(log), "checkpoint"))
	check(err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	head := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(head[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(head[2])
	check(err)
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, log)

	segments, err := filepath.Glob(filepath.Join(string(log), "*.jsonl"))
	check(err)
	sort.Strings(segments)
	var lines [][]byte
	for _, segment := range segments {
		data, err := os.ReadFile(segment)
		check(err)
		whole := bytes.Split(data, []byte("\n"))
		lines = append(lines, whole[:len(whole)-1]...)
	}
	proofs := map[string][]string{}
	for n := int64(0); n < size; n++ {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, n)})
		check(err)
		if hashes[0] != tlog.RecordHash(lines[n]) {
			check(fmt.Errorf("line %d is not the leaf in its tile", n))
		}
		if n%97 == 0 || n == size-1 {
			proof, err := tlog.ProveRecord(size, n, reader)
			check(err)
			check(tlog.CheckRecord(proof, size, root, n, tlog.RecordHash(lines[n])))
			proofs[fmt.Sprintf("inclusion %d", n)] = texts(proof)
		}
	}
	for old := int64(1); old <= size; old += 61 {
		proof, err := tlog.ProveTree(size, old, reader)
		check(err)
		proofs[fmt.Sprintf("consistency %d", old)] = texts(proof)
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"origin": head[0], "size": size, "root": base64.StdEncoding.EncodeToString(root[:]), "proofs": proofs,
	}))
}

func texts(hashes []tlog.Hash) []string {
	found := []string{}
	for _, hash := range hashes {
		found = append(found, hash.String())
	}
	return found
}
