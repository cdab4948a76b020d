package safehttp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// A dialler makes the connections of a Client. Its check runs on every address a host name resolved to, on the socket
// that is about to connect: what is checked is what is dialled, whatever a name server answers next time.
type dialler struct {
	policy   Policy
	resolver *net.Resolver
	tls      *tls.Config
	own      func(netip.Addr) bool // isOwn, except in tests
}

// plain makes a connection for http.
func (d *dialler) plain(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := duringCall(ctx)
	defer cancel()
	return d.dial(ctx, "http", network, address)
}

// secure makes a connection for https and completes the handshake.
func (d *dialler) secure(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := duringCall(ctx)
	defer cancel()
	conn, err := d.dial(ctx, "https", network, address)
	if err != nil {
		return nil, err
	}
	reach(ctx, handshaking)
	config := d.tls.Clone()
	config.ServerName, _, err = net.SplitHostPort(address)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, handshakeError(err)
	}
	return secured, nil
}

func (d *dialler) dial(ctx context.Context, scheme, network, address string) (net.Conn, error) {
	reach(ctx, lookingUp)
	dialer := net.Dialer{
		Resolver: d.resolver,
		ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
			reach(ctx, connecting)
			if err := d.check(scheme, address); err != nil {
				return &Error{Class: Blocked, Reason: err.Error()}
			}
			return nil
		},
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, dialError(err)
	}
	return conn, nil
}

// check judges a resolved address, host:port.
func (d *dialler) check(scheme, address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address %s cannot be read", address)
	}
	addr := at.Addr().Unmap()
	if err := d.policy.permit(scheme, addr); err != nil {
		return err
	}
	if !d.policy.allows(addr) && d.own(addr) {
		return notAllowed(addr)
	}
	return nil
}

// isOwn reports whether addr is one of this machine's, public ones included: behind it lie services that trust their
// neighbours. The kernel reaches an address of its own from that very address; asking it so needs no right to list the
// interfaces, and connecting a UDP socket sends nothing.
func isOwn(addr netip.Addr) bool {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9)))
	if err != nil {
		return false // there is no route, as connecting will find
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	return ok && local.AddrPort().Addr().Unmap() == addr
}
