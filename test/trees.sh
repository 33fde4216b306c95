# shellcheck shell=bash
#
# What test/versions and test/package share: trees of Debian releases, and commands that run in them as on a machine
# of that release.
#
# To be sourced after prepare.sh.  Then:
#
#   start_trees                        from here on nothing stays behind but the trees, whatever ends the script
#   make_tree TREE RELEASE             a tree of the release with nothing but its essential packages, unless it is there
#   put_checkout TREE                  the checkout without build products, as /src there
#   run_in TREE COMMAND [ARGUMENT...]  runs it there, as root
#
# A command in a tree has mounts, processes and devices of its own, all gone when it ends; only the network is the
# machine's.  It is not in a chroot, from which an unprivileged user could make no namespace of his own.
#
# TREES names the folder of the trees.

# What the scripts that source this share with it
# shellcheck disable=SC2034,SC2154

releases=(bookworm trixie forky)
trees=${TREES:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/screenshot_task}
steps=()                        # processes that run a command in a tree
shown=                          # the descriptor that the output of a step goes to, to be shown
shower=                         # the process that shows it

# debootstrap, and what is mounted, need root.
become_root_at_once() {
	[ "$EUID" -ne 0 ] || return 0
	command -v sudo >/dev/null || die "needs root, or sudo"
	exec sudo env TREES="$trees" "$0" "$@"
}

# RELEASE...: all of them, if none is named
choose_releases() {
	local release
	for release in "$@"; do
		[[ " ${releases[*]} " == *" $release "* ]] || die "there is no $release; there are: ${releases[*]}"
	done
	[ $# -eq 0 ] || releases=("$@")
}

start_trees() {
	install_missing for-trees
	trap end_trees EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	mkdir -p "$trees"
	trees=$(cd "$trees" && pwd -P)
	# Two at a time would be in each other's trees.
	exec {trees_lock}>"$trees/lock"
	flock -n "$trees_lock" || die "another one uses $trees"
	cd /
}

end_trees() {
	local step
	trap - EXIT
	trap '' HUP INT TERM
	for step in "${steps[@]}"; do
		kill -s KILL "$step" 2>/dev/null || true
		wait "$step" 2>/dev/null || true
	done
	end_showing
}

# Commands run in the background, as one in the foreground would hold up a signal to this script.
step() {
	local status=0
	# Whoever holds the lock must not outlive this script.
	"$@" </dev/null >&"${shown:-1}" 2>&"${shown:-2}" {trees_lock}>&- &
	steps=($!)
	wait "$!" || status=$?
	steps=()
	return "$status"
}

# LOG COMMAND...: a step whose output is shown, and kept
step_shown() {
	local log=$1 status=0
	shift
	exec {shown}> >(exec tee "$log")
	shower=$!
	"$@" || status=$?
	end_showing
	return "$status"
}

end_showing() {
	[ -n "$shower" ] || return 0
	exec {shown}>&-
	wait "$shower" || true
	shown=
	shower=
}

# The mirror that this machine has its packages from; where it does not say, debootstrap's own.
mirror() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
		grep -v -e -security | head -n 1 || true
}

make_tree() {
	local tree=$trees/$1 release=$2 script=() mirror log=$trees/$1.log
	[ ! -d "$tree" ] || return 0
	say "Making $tree with debootstrap"
	# Releases that debootstrap does not know yet are made as the one that they all come from.
	[ -e "/usr/share/debootstrap/scripts/$release" ] || script=(sid)
	mirror=$(mirror)
	rm -rf "$tree.new"
	step unshare --mount --pid --fork --kill-child --mount-proc debootstrap --variant=minbase "$release" "$tree.new" \
		${mirror:+"$mirror"} "${script[@]}" >"$log" 2>&1 ||
		{ tail -n 20 "$log" | sed 's/^/    /' >&2; die "could not make a tree of $release"; }
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$tree.new/etc/hosts"
	# A mirror may be a snapshot, whose lists have run out; that they are signed is checked all the same.
	echo 'Acquire::Check-Valid-Until "false";' >"$tree.new/etc/apt/apt.conf.d/snapshot"
	# A tree that is lost is made again: dpkg need not wait for the disk.
	echo force-unsafe-io >"$tree.new/etc/dpkg/dpkg.cfg.d/unsafe-io"
	mv "$tree.new" "$tree"
	rm "$log"
}

put_checkout() {
	rm -rf "$trees/$1/src"
	mkdir "$trees/$1/src"
	tar -C "$top" "${build_products[@]}" -cf - . | tar -C "$trees/$1/src" --no-same-owner -xf -
}

# Runs as the first process of its namespaces.  What is in "tmp" is of commands that are gone.
# shellcheck disable=SC2016
in_tree='
	tree=$1
	shift
	mount --bind "$tree" "$tree"
	cd "$tree"
	find tmp -mindepth 1 -delete
	mount -t proc -o nosuid,nodev,noexec proc proc
	mount -t tmpfs -o mode=755,nosuid tmpfs dev
	for device in null zero full random urandom tty; do
		touch "dev/$device"
		mount --bind "/dev/$device" "dev/$device"
	done
	mkdir dev/shm dev/pts
	mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
	mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	for n in 0:stdin 1:stdout 2:stderr; do
		ln -s "/proc/self/fd/${n%:*}" "dev/${n#*:}"
	done
	cat /etc/resolv.conf >etc/resolv.conf || true
	pivot_root . mnt
	umount -l /mnt
	cd /
	# A shell that stays, as the first process has to bury those that have lost their parents.
	env "$@" || exit
	exit 0
'
run_in() {
	local tree=$trees/$1
	shift
	step env -i ${TERM:+"TERM=$TERM"} ${http_proxy:+"http_proxy=$http_proxy"} HOME=/root LC_ALL=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
		unshare --mount --uts --ipc --pid --fork --kill-child --propagation=private \
		sh -euc "$in_tree" sh "$tree" "$@"
}
