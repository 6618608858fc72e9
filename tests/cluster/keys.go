// The keys and certificates of a control plane, made anew for each cluster.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// keys are the paths of the files that makeKeys wrote.
type keys struct {
	CA             string // The certificate that clients trust.
	Certificate    string // What the API server shows, signed by the CA: some clients refuse a CA as a server.
	Key            string
	ServiceAccount string // Signs and checks the tokens of service accounts.
}

// makeKeys writes the keys of an API server that is reached at the given addresses.
func makeKeys(folder string, addresses []net.IP) (keys, error) {
	files := keys{
		CA:             filepath.Join(folder, "ca.crt"),
		Certificate:    filepath.Join(folder, "apiserver.crt"),
		Key:            filepath.Join(folder, "apiserver.key"),
		ServiceAccount: filepath.Join(folder, "service-account.key"),
	}
	caKey, err := newKey("")
	if err != nil {
		return files, err
	}
	serverKey, err := newKey(files.Key)
	if err != nil {
		return files, err
	}
	if _, err := newKey(files.ServiceAccount); err != nil {
		return files, err
	}
	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "cluster-test-ca"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	if err := sign(ca, ca, caKey.Public(), caKey, files.CA); err != nil {
		return files, err
	}
	server := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           addresses,
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
	}
	return files, sign(server, ca, serverKey.Public(), caKey, files.Certificate)
}

// newKey makes a private key and, if a path is given, writes it there.
func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil || path == "" {
		return key, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

// sign completes a certificate, signs it and writes it.
func sign(certificate, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer, path string) error {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	certificate.SerialNumber = serial
	certificate.NotBefore = time.Now().Add(-time.Hour)
	certificate.NotAfter = time.Now().AddDate(1, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, certificate, parent, public, signer)
	if err != nil {
		return err
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// newToken makes a bearer token.
func newToken() string {
	bytes := make([]byte, 16)
	// Never fails, as its documentation says.
	_, _ = rand.Read(bytes)
	return hex.EncodeToString(bytes)
}
