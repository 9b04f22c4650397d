// Checks proofs.json and .tlog-proof files with Go's own sumdb/note and sumdb/tlog.
//
//	verify DIR
//
// Cosignatures (cosignature/v1, key type 4) are checked with crypto/ed25519: sumdb/note does not
// know that type. Ends with an error at the first thing that is not right.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proofs struct {
	Vkey   string
	Wvkey  string
	Wvkeys []string
	Note   string
	Inc    []struct {
		I, N             int64
		Root, Leaf, Data string
		Proof            []string
	}
	Con []struct {
		M, N   int64
		R1, R2 string
		Proof  []string
	}
}

func main() {
	folder := os.Args[1]
	raw, err := os.ReadFile(filepath.Join(folder, "proofs.json"))
	must(err)
	var p proofs
	must(json.Unmarshal(raw, &p))
	size, root := head(p.Vkey, p.Note)
	for _, inc := range p.Inc {
		data, err := base64.StdEncoding.DecodeString(inc.Data)
		must(err)
		leaf := hash(inc.Leaf)
		if leaf != tlog.RecordHash(data) {
			log.Fatalf("entry %d: leaf and data differ", inc.I)
		}
		must(tlog.CheckRecord(hashes(inc.Proof), inc.N, hash(inc.Root), inc.I, leaf))
		if inc.N == size && hash(inc.Root) != root {
			log.Fatalf("entry %d: another root than the head's", inc.I)
		}
	}
	for _, con := range p.Con {
		must(tlog.CheckTree(hashes(con.Proof), con.N, hash(con.R2), con.M, hash(con.R1)))
	}
	if p.Wvkey != "" && len(p.Wvkeys) == 0 {
		p.Wvkeys = []string{p.Wvkey}
	}
	for _, key := range p.Wvkeys {
		cosigned(key, p.Note)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.tlog-proof"))
	must(err)
	for _, file := range files {
		spicy(file, p)
	}
	fmt.Printf("ok head %d, %d inclusion, %d consistency, %d cosignatures, %d files\n",
		size, len(p.Inc), len(p.Con), len(p.Wvkeys), len(files))
}

// head opens the note with the log's key alone and reads its tree.
func head(vkey, text string) (int64, tlog.Hash) {
	verifier, err := note.NewVerifier(vkey)
	must(err)
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	must(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		log.Fatalf("origin %q is not the key's name", lines[0])
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	return size, hash(lines[2])
}

// cosigned checks one witness's line: c2sp.org/tlog-cosignature.
func cosigned(vkey, text string) {
	parts := strings.SplitN(vkey, "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[2])
	must(err)
	if key[0] != 4 {
		log.Fatalf("%s: not a cosignature key", parts[0])
	}
	body, lines, _ := strings.Cut(text, "\n\n")
	for _, line := range strings.Split(lines, "\n") {
		fields := strings.Split(line, " ")
		if len(fields) != 3 || fields[1] != parts[0] {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(fields[2])
		must(err)
		at := binary.BigEndian.Uint64(data[4:12])
		message := fmt.Sprintf("cosignature/v1\ntime %d\n%s\n", at, body)
		if fmt.Sprintf("%x", data[:4]) != parts[1] || !ed25519.Verify(key[1:], []byte(message), data[12:]) {
			log.Fatalf("%s: wrong cosignature", parts[0])
		}
		return
	}
	log.Fatalf("%s: no cosignature", parts[0])
}

// spicy checks a .tlog-proof file against the entry of the same number.
func spicy(file string, p proofs) {
	raw, err := os.ReadFile(file)
	must(err)
	top, text, _ := strings.Cut(string(raw), "\n\n")
	lines := strings.Split(top, "\n")
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	must(err)
	size, root := head(p.Vkey, text)
	for _, inc := range p.Inc {
		if inc.I == index {
			must(tlog.CheckRecord(hashes(lines[2:]), size, root, index, hash(inc.Leaf)))
			return
		}
	}
	log.Fatalf("%s: no such entry in proofs.json", file)
}

func hash(text string) tlog.Hash {
	h, err := tlog.ParseHash(text)
	must(err)
	return h
}

func hashes(texts []string) []tlog.Hash {
	var found []tlog.Hash
	for _, text := range texts {
		found = append(found, hash(text))
	}
	return found
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
