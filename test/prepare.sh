# shellcheck shell=bash
#
# What the scripts beside it share: the packages that are missing, a folder for everything temporary, an
# unprivileged user, a build of the extension, private clusters, and the end of it all.
#
# To be sourced.  Then, in this order:
#
#   install_missing for-demo|for-tests|for-trees|for-packages|for-bench
#   start_work                        from here on the work folder is removed at the end, whatever ends the script
#   copy_tree NAME                    the checkout without build products, as $work/NAME
#   build NAME [VARIABLE=VALUE...]    make there
#   install_extension NAME            make install there
#   start_cluster NAME [SETTING...]   a server of its own in $work/NAME, reached by its socket there alone
#
# PG_CONFIG chooses the PostgreSQL to test with; without it, it is that of the Debian release.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
work=
group=                          # process group of the running step
clusters=()
apt_restraints=()               # files that exist while packages are installed
as_root=()                      # goes before commands that need root
as_runner=()                    # goes before commands that must not have it

say() {
	printf '%s\n' "$*"
}

die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# What the head comment of the script says.
usage() {
	sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
	exit "$1"
}

# A calling environment that aims at other servers, or at other compilers, must change nothing here.
forget_environment() {
	local name
	for name in "${!PG@}"; do
		[[ $name == PG_CONFIG || $name == PG_TEST_* ]] || unset "$name"
	done
	unset COPT CUSTOM_COPT MAKEFLAGS MAKELEVEL PROFILE
	export LC_ALL=C.UTF-8
	umask 022
}

# Which PostgreSQL ------------------------------------------------------------

default_pg_config() {
	local release=
	# shellcheck source=/dev/null
	[ ! -r /etc/os-release ] || release=$(. /etc/os-release && echo "${ID-} ${VERSION_ID-}")
	case $release in
		"debian 12") echo /usr/lib/postgresql/15/bin/pg_config ;;
		"debian 13") echo /usr/lib/postgresql/17/bin/pg_config ;;
		*) command -v pg_config || echo /usr/lib/postgresql/18/bin/pg_config ;;
	esac
}

choose_postgres() {
	pg_config=${PG_CONFIG:-$(default_pg_config)}
	[[ $pg_config == */* ]] || pg_config=$(command -v "$pg_config") || die "there is no ${PG_CONFIG}"
	if [ -x "$pg_config" ]; then
		pg_version=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	elif [[ $pg_config =~ ^/usr/lib/postgresql/([0-9]+)/bin/pg_config$ ]]; then
		pg_version=${BASH_REMATCH[1]}
	else
		die "there is no $pg_config"
	fi
	unset PG_CONFIG
}

# Packages --------------------------------------------------------------------

missing=()

# PACKAGE COMMAND...: unless the command succeeds, the package is missing.
needs() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || missing+=("$package")
}

bindir_has() {
	[ -x "$pg_config" ] && [ -x "$("$pg_config" --bindir)/$1" ]
}

has_pgxs() {
	[ -x "$pg_config" ] && [ -e "$("$pg_config" --pgxs)" ]
}

# Debian's client package has PGXS as well, but no headers.
can_build() {
	has_pgxs && [ -e "$("$pg_config" --includedir-server)/postgres.h" ]
}

# Debian's packages bring a clang of a certain version with them.
clang_of_postgres() {
	local clang=
	! has_pgxs || clang=$(sed -n 's/^CLANG *= *//p' "$(dirname "$("$pg_config" --pgxs)")/../Makefile.global")
	if [ -x "$clang" ]; then
		echo "$clang"
	else
		echo clang
	fi
}

find_missing() {
	missing=()
	case $1 in
		for-trees)
			needs debootstrap command -v debootstrap
			return
			;;
		for-packages)
			needs dpkg-dev command -v dpkg-buildpackage
			needs debhelper command -v dh
			needs postgresql-server-dev-all command -v pg_buildext
			return
			;;
	esac
	needs gcc command -v gcc
	needs libc6-dev test -e /usr/include/stdio.h
	needs make command -v make
	needs pkg-config command -v pkg-config
	needs libcurl4-openssl-dev pkg-config --exists libcurl
	needs libssl-dev pkg-config --exists libssl
	needs "postgresql-$pg_version" bindir_has postgres
	needs "postgresql-server-dev-$pg_version" can_build
	needs python3 test -x /usr/bin/python3
	needs python3-h2 /usr/bin/python3 -c 'import h2'
	needs openssl command -v openssl
	needs ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
	if [ "$1" = for-tests ]; then
		needs clang command -v "$(clang_of_postgres)"
		needs curl command -v curl
		needs perl command -v prove
		needs libipc-run-perl perl -MIPC::Run -e 1
		needs prometheus command -v promtool
		needs prometheus-postgres-exporter command -v prometheus-postgres-exporter
	fi
	if [ "$1" = for-bench ]; then
		needs nginx command -v nginx
		needs libnginx-mod-http-perl test -e /usr/lib/nginx/modules/ngx_http_perl_module.so
		needs nodejs command -v node
		needs npm command -v npm
		needs python3-psycopg2 /usr/bin/python3 -c 'import psycopg2'
	fi
}

become_root() {
	[ "$EUID" -ne 0 ] || return 0
	command -v sudo >/dev/null || return 1
	as_root=(sudo)
}

createcluster_folder=/etc/postgresql-common/createcluster.d

put_restraint() {
	"${as_root[@]}" mkdir -p "$(dirname "$1")"
	apt_restraints+=("$1")
	"${as_root[@]}" tee "$1" >/dev/null
}

is_missing() {
	[[ " ${missing[*]} " == *" $1 "* ]]
}

# Debian's packages start their servers; that of PostgreSQL also makes a cluster "main", and starts all clusters that
# do not run.  The second file does nothing once this script is gone.
restrain_packages() {
	! is_missing "postgresql-$pg_version" || put_restraint "$createcluster_folder/screenshot_task.conf" <<-END
		create_main_cluster = false
	END
	[ ! -e /usr/sbin/policy-rc.d ] || return 0
	put_restraint /usr/sbin/policy-rc.d <<-END
		#!/bin/sh
		# made by $0: while it installs packages, no server is started
		[ ! -d /proc/$$ ] || exit 101
	END
	"${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
}

# Nor are those that only tests need to be started with the machine.
disable_services() {
	local service
	for service in prometheus prometheus-postgres-exporter nginx; do
		! is_missing "$service" || "${as_root[@]}" update-rc.d "$service" disable
	done
}

lift_restraints() {
	[ ${#apt_restraints[@]} -gt 0 ] || return 0
	"${as_root[@]}" rm -f "${apt_restraints[@]}"
	[ ! -d "$createcluster_folder" ] || "${as_root[@]}" rmdir --ignore-fail-on-non-empty "$createcluster_folder"
	apt_restraints=()
}

apt() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

install_missing() {
	local output
	find_missing "$1"
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "please install these first (Debian's names): ${missing[*]}"
	become_root || die "these packages are missing, and there is neither root nor sudo to install them: ${missing[*]}"
	say "Installing with apt-get, which may take a minute or two: ${missing[*]}"
	end_well
	restrain_packages
	output=$({ apt update || true; apt install --no-install-recommends --no-remove "${missing[@]}" && disable_services; } 2>&1) || {
		printf '%s\n' "$output" >&2
		die "could not install: ${missing[*]}"
	}
	lift_restraints
	find_missing "$1"
	[ ${#missing[@]} -eq 0 ] || die "installed, and still missing: ${missing[*]}"
}

# The work folder, and who works in it ----------------------------------------

end_well() {
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# A server refuses to run as root.
choose_runner() {
	local user=postgres
	[ "$EUID" -eq 0 ] || return 0
	id "$user" >/dev/null 2>&1 || user=nobody
	as_runner=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --init-groups --)
}

# Under /tmp, and not TMPDIR, as the path must be short enough for sockets, and the runner must get there.
start_work() {
	cd /
	choose_runner
	end_well
	work=$("${as_runner[@]}" mktemp -d /tmp/screenshot_task.XXXXXX)
	export HOME=$work TMPDIR=$work/tmp
	"${as_runner[@]}" mkdir "$work/tmp" "$work/logs"
}

# Runs a step as the runner, in a process group of its own, for at most $step_limit seconds.  Unlike a command in
# the foreground it does not hold up a signal to this script.
step_limit=600
run() {
	local status=0
	set -m
	"${as_runner[@]}" timeout --kill-after=10 "$step_limit" "$@" </dev/null &
	group=$!
	set +m
	wait "$group" || status=$?
	group=
	return "$status"
}

build_products=(--exclude-vcs --exclude='*.o' --exclude='*.bc' --exclude='*.so' --exclude=__pycache__
	--exclude=./results --exclude=./tmp_check --exclude='./regression.*')

copy_tree() {
	local tree=$work/$1
	"${as_runner[@]}" mkdir "$tree"
	tar -C "$top" "${build_products[@]}" -cf - . |
		"${as_runner[@]}" tar -C "$tree" --no-same-owner -xf -
	"${as_runner[@]}" chmod -R u+rwX "$tree"
}

make_there() {
	local tree=$1
	shift
	run make --no-print-directory -C "$work/$tree" PG_CONFIG="$pg_config" "$@"
}

build() {
	local tree=$1
	shift
	make_there "$tree" -j "$(nproc)" "$@" >"$work/logs/build-$tree.log" 2>&1
}

install_extension() {
	local tree=$1 to log=$work/logs/install.log
	shift
	to=$("$pg_config" --pkglibdir)
	[ -w "$to" ] || become_root || die "cannot write to $to, and there is neither root nor sudo"
	"${as_root[@]}" make -s -C "$work/$tree" PG_CONFIG="$pg_config" "$@" install >"$log" 2>&1 ||
		{ cat "$log" >&2; return 1; }
}

# Private clusters ------------------------------------------------------------

# The socket is in a folder that others cannot enter; there is no TCP port.
start_cluster() {
	local cluster=$work/$1 bindir
	shift
	bindir=$("$pg_config" --bindir)
	"${as_runner[@]}" "$bindir/initdb" --pgdata="$cluster" --username=postgres --auth=trust --encoding=UTF8 \
		--no-locale --no-sync >"$work/logs/initdb.log" 2>&1 || { cat "$work/logs/initdb.log" >&2; return 1; }
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$cluster'" "$@" |
		"${as_runner[@]}" tee -a "$cluster/postgresql.conf" >/dev/null
	clusters+=("$cluster")
	"${as_runner[@]}" "$bindir/pg_ctl" --pgdata="$cluster" --log="$cluster.log" --silent --wait start ||
		{ cat "$cluster.log" >&2; return 1; }
}

stop_cluster() {
	[ ! -e "$1/postmaster.pid" ] ||
		"${as_runner[@]}" "$("$pg_config" --bindir)/pg_ctl" --pgdata="$1" --silent --mode="${2:-fast}" --wait stop
}

# The end ---------------------------------------------------------------------

# Processes that a step left behind are those whose current folder is in the folder that it worked in.
processes_in() {
	local cwd pid
	for cwd in /proc/[0-9]*/cwd; do
		pid=${cwd#/proc/}
		pid=${pid%/cwd}
		if [[ $(readlink "$cwd" 2>/dev/null)/ == "$1"/* ]]; then
			echo "$pid"
		fi
	done
}

end_processes() {
	local signal pids
	for signal in TERM KILL; do
		for _ in {1..20}; do
			pids=$(processes_in "$1")
			[ -n "$pids" ] || return 0
			# shellcheck disable=SC2086
			kill -s "$signal" $pids 2>/dev/null || true
			sleep 0.1
		done
	done
}

# Leaves $keep_logs, if it is set, of the work folder.
keep_logs=
clean_up() {
	local cluster
	trap - EXIT
	trap '' HUP INT TERM
	lift_restraints
	[ -n "$work" ] || return 0
	[ -z "$group" ] || kill -s TERM -- "-$group" 2>/dev/null || true
	for cluster in "${clusters[@]}"; do
		stop_cluster "$cluster" immediate >/dev/null 2>&1 || true
	done
	end_processes "$work"
	if [ -n "$keep_logs" ]; then
		find "$work" -mindepth 1 -maxdepth 1 ! -name logs -exec rm -rf {} +
	else
		rm -rf "$work"
	fi
}

forget_environment
choose_postgres
