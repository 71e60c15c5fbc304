// Conformance runs the cases of clients/conformance with this client: conformance FILE.
//
// FILE is JSON with servers and cases. Each case ends with one line of JSON on standard output: its name, and what was
// wrong, which is empty if nothing was.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"time"

	atelier "example.com/atelier/go"
)

type server struct {
	Address string `json:"address"`
	Token   string `json:"token"`
	CA      string `json:"ca"`
}

type testCase struct {
	Name      string          `json:"name"`
	Call      string          `json:"call"`
	Server    string          `json:"server"`
	Token     *string         `json:"token"`
	TimeoutMS int             `json:"timeout_ms"`
	Request   json.RawMessage `json:"request"`
	Size      int             `json:"size"`
	MediaType string          `json:"media_type"`
	Expect    any             `json:"expect"`
	Error     any             `json:"error"`
}

func main() {
	if err := runAll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runAll(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var told struct {
		Servers map[string]server `json:"servers"`
		Cases   []testCase        `json:"cases"`
	}
	if err := json.Unmarshal(text, &told); err != nil {
		return err
	}
	for _, one := range told.Cases {
		name := one.Server
		if name == "" {
			name = "plain"
		}
		client, err := connect(told.Servers[name], one.Token)
		if err != nil {
			return err
		}
		line, _ := json.Marshal(map[string]string{"name": one.Name, "wrong": run(client, one)})
		fmt.Println(string(line))
		client.Close()
	}
	return nil
}

func connect(to server, token *string) (*atelier.Client, error) {
	options := []atelier.Option{atelier.WithToken(to.Token), atelier.WithReconnectTimeout(5 * time.Minute)}
	if token != nil {
		options = append(options, atelier.WithToken(*token))
	}
	if to.CA != "" {
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM([]byte(to.CA))
		options = append(options, atelier.WithTLS(&tls.Config{RootCAs: authorities}))
	}
	return atelier.Connect(to.Address, options...)
}

// run returns what was wrong; nothing if nothing was.
func run(client *atelier.Client, one testCase) string {
	ctx := context.Background()
	if one.TimeoutMS > 0 {
		limited, end := context.WithTimeout(ctx, time.Duration(one.TimeoutMS)*time.Millisecond)
		defer end()
		ctx = limited
	}
	call, known := calls[one.Call]
	if !known {
		return "no such call: " + one.Call
	}
	outcome, err := call(ctx, client, one)
	failure := (*atelier.Error)(nil)
	switch {
	case err == nil && one.Error != nil:
		return fmt.Sprintf("succeeded with %v", outcome)
	case err == nil:
		return differ(one.Expect, toJSON(outcome), "")
	case one.Error == nil || !errors.As(err, &failure):
		return fmt.Sprintf("failed: %v", err)
	}
	fields := []string{}
	for field := range failure.Fields {
		fields = append(fields, field)
	}
	found := map[string]any{"code": nameOf(failure.Code), "reason": failure.Reason, "fields": fields}
	return differ(one.Error, toJSON(found), "error")
}

func toJSON(value any) any {
	text, _ := json.Marshal(value)
	var found any
	_ = json.Unmarshal(text, &found)
	return found
}

// differ tells where what was found is not what was expected, which may name less; nothing if nowhere.
func differ(expected, found any, path string) string {
	parts, nested := expected.(map[string]any)
	if !nested {
		if reflect.DeepEqual(expected, found) {
			return ""
		}
		return fmt.Sprintf("%s is %v, not %v", path, found, expected)
	}
	for key, value := range parts {
		var part any
		switch found := found.(type) {
		case map[string]any:
			part = found[key]
		case []any:
			if index, err := strconv.Atoi(key); err == nil && index < len(found) {
				part = found[index]
			}
		}
		if wrong := differ(value, part, path+"."+key); wrong != "" {
			return wrong
		}
	}
	return ""
}
