#!/bin/sh
# with-postgres.sh [--durable] COMMAND [ARG…] runs the command beside a throwaway PostgreSQL, which it finds in
# OPENCPM_TEST_DATABASE_URL. If that is set already, the server it names is used and none is started.
#
# The server goes away with this script, and its data with it. Killing the script outright stops the server too
# (its parent-death signal) and leaves only the data. fsync is off: tests kill our process, never the machine. What
# measures asks for a --durable one, which works with PostgreSQL's own settings.
set -eu

fail() {
	echo "with-postgres: $1" >&2
	exit 1
}

risks="-F -c full_page_writes=off"
[ "${1:-}" != --durable ] || { risks= && shift; }

[ -z "${OPENCPM_TEST_DATABASE_URL:-}" ] || exec "$@"

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || fail "there is no PostgreSQL in /usr/lib/postgresql"

server=
dir=$(mktemp -d "${TMPDIR:-/tmp}/opencpm-postgres.XXXXXX")
cleanup() {
	if [ -n "$server" ]; then
		kill -QUIT "$server" 2>/dev/null || :
		wait "$server" 2>/dev/null || :
	fi
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The listening port is open to every user of the machine, hence the password.
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && echo "$password" >"$dir/password")

# PostgreSQL refuses to run as root.
as=
if [ "$(id -u)" -eq 0 ]; then
	id postgres >/dev/null 2>&1 || fail "running as root needs the user postgres"
	as="--reuid=postgres --regid=postgres --clear-groups"
	chown -R postgres: "$dir"
fi

# Text sorts by language here, as it does on most servers in the field, so that a query which quietly relies on
# byte order fails in a test. (The option is new in PostgreSQL 15.)
version=${bin#/usr/lib/postgresql/}
collation=
[ "${version%%[./]*}" -lt 15 ] || collation="--locale-provider=icu --icu-locale=en-US"

cd "$dir" # the caller's directory may be closed to postgres
# shellcheck disable=SC2086 # $as, $collation and $risks are lists of options
setpriv $as --pdeathsig=QUIT "$bin/initdb" --no-sync --no-instructions --pgdata=data --username=opencpm \
	--auth=scram-sha-256 --pwfile=password --encoding=UTF8 --locale=C.UTF-8 $collation >log 2>&1 ||
	{ cat log >&2; fail "initdb failed"; }

# The port is picked at random below the range of outgoing connections; should it be taken, another one is tried.
for attempt in 1 2 3 4 5; do
	port=$(shuf -i 20000-32000 -n 1)
	# shellcheck disable=SC2086
	setpriv $as --pdeathsig=QUIT "$bin/postgres" -D data -h 127.0.0.1 -p "$port" -k '' \
		-c max_connections=200 $risks >>log 2>&1 &
	server=$!
	while kill -0 "$server" 2>/dev/null; do
		# The server says "ready" in this file once it accepts connections, as pg_ctl knows too.
		if grep -qs '^ready' data/postmaster.pid; then
			break 2
		fi
		sleep 0.02
	done
	wait "$server" || :
	server=
done
[ -n "$server" ] || { cat log >&2; fail "the server did not start in $attempt attempts"; }
cd - >/dev/null

OPENCPM_TEST_DATABASE_URL="postgres://opencpm:$password@127.0.0.1:$port/postgres?sslmode=disable"
export OPENCPM_TEST_DATABASE_URL
"$@"
