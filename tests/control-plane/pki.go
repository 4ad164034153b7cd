// Throw-away certificates: names and addresses in, PEM files in one directory out. All are signed by one authority that
// nobody trusts but the components and clients of this control plane.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Long enough for any test run, short enough that a stray file is worth nothing.
const lifetime = 7 * 24 * time.Hour

// authority signs certificates and writes them to a directory.
type authority struct {
	directory   string
	certificate *x509.Certificate
	key         crypto.Signer
}

// subject is who a certificate is for.
type subject struct {
	file   string // without suffix
	name   string
	groups []string
	hosts  []string // names and addresses; a certificate with any is a server's
}

func newAuthority(directory string) (*authority, error) {
	key, err := newKey(directory, "ca")
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("control-plane-ca", nil)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	ca := &authority{directory: directory, certificate: template, key: key}
	return ca, ca.sign("ca", template, key.Public())
}

// issue makes a key and a certificate: FILE.key and FILE.crt.
func (ca *authority) issue(who subject) error {
	key, err := newKey(ca.directory, who.file)
	if err != nil {
		return err
	}
	template, err := newTemplate(who.name, who.groups)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(who.hosts) > 0 {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, host := range who.hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return ca.sign(who.file, template, key.Public())
}

func (ca *authority) sign(file string, template *x509.Certificate, public crypto.PublicKey) error {
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, public, ca.key)
	if err != nil {
		return fmt.Errorf("cannot sign the certificate %s: %w", file, err)
	}
	if ca.certificate.Raw == nil {
		if ca.certificate, err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("the authority's own certificate is unreadable: %w", err)
		}
	}
	return writePEM(filepath.Join(ca.directory, file+".crt"), "CERTIFICATE", der)
}

func newTemplate(name string, groups []string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		// Clocks of emulated machines may be behind.
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(lifetime),
	}, nil
}

func newKey(directory, file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(filepath.Join(directory, file+".key"), "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
