// When a control plane is up: the API server says so, and the controllers have done their first work.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	patience = 90 * time.Second
	pause    = 50 * time.Millisecond
)

// No Pod is admitted to a namespace before the service account controller was there.
const firstWork = "/api/v1/namespaces/default/serviceaccounts/default"

// probe asks the API server as admin.
type probe struct {
	client *http.Client
	base   string
}

func newProbe(o *options) (*probe, error) {
	pem, err := os.ReadFile(o.path("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	admin, err := tls.LoadX509KeyPair(o.path("admin.crt"), o.path("admin.key"))
	if err != nil {
		return nil, err
	}
	host := o.bindAddress
	if net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	return &probe{
		base: "https://" + net.JoinHostPort(host, strconv.Itoa(o.port)),
		client: &http.Client{
			Timeout: 5 * time.Second,
			Transport: &http.Transport{
				// The address that is bound need not be in the certificate.
				TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{admin}, ServerName: "kubernetes"},
				DisableKeepAlives: true,
			},
		},
	}, nil
}

// wait asks until the answer is 200, the component ends, or the patience is over.
func (p *probe) wait(path string, c *component, stop <-chan string) error {
	last := errors.New("not asked")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if last = p.get(path); last == nil {
			return nil
		}
		select {
		case why := <-stop:
			return fmt.Errorf("stopped before it was ready: %s", why)
		case <-c.ended:
			return fmt.Errorf("%s ended:\n%s", c.name, tail(c.log()))
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("%s is not served after %s: %w\n%s says:\n%s", path, patience, last, c.name, tail(c.log()))
}

func (p *probe) get(path string) error {
	response, err := p.client.Get(p.base + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

// tail is the end of a log.
func tail(path string) string {
	const lines = 15
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
