// The API server's port: ours as long as `up` runs, also while the API server is stopped.
package main

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// reserve binds a port (0 takes a free one) and never listens: callers are refused until the API server, which shares
// the port, listens. Without it an outgoing connection could be given the port during an outage.
func reserve(address string, port int) (int, error) {
	family, name := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: [16]byte(net.ParseIP(address).To16())})
	if v4 := net.ParseIP(address).To4(); v4 != nil {
		family, name = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte(v4)}
	}
	socket, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	if err := unix.Bind(socket, name); err != nil {
		return 0, fmt.Errorf("cannot bind %s port %d: %w", address, port, err)
	}
	bound, err := unix.Getsockname(socket)
	if err != nil {
		return 0, err
	}
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		return bound.Port, nil
	case *unix.SockaddrInet6:
		return bound.Port, nil
	}
	return 0, fmt.Errorf("the socket on %s has a name of an unknown family", address)
}
