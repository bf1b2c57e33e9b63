#!/bin/sh
# provision.sh from its step `test` on, for real: on a FreeBSD kernel, as an
# ordinary user, with all that it would build brought prebuilt.  From the
# repository, with a module built for that kernel:
#
#	tests/vm/prebuilt.sh lwc.ko
#	tests/vm/run.py --smp 2 --memory 2G --timeout 1800 \
#	    target/freebsd-prebuilt tests/vm/guest_steps.sh -- sh guest_steps.sh
#
# The steps may be named: sh guest_steps.sh test audit.  It fails unless they
# all end well, the matrix comes last, no process is left and the module can be
# unloaded after it.
set -u

[ $# -gt 0 ] || set -- test bench audit
user=1001
here=$(pwd)
# Of the user's own, as the home folder of a Vagrant box is.
home=/tmp/lwc-home
chmod 1777 /tmp
rm -rf $home
mkdir $home
chown $user:$user $home
as_user() { "$here/freebsd-prebuilt/as_user" $user $home "$@"; }
as_user cp -R "$here/freebsd-prebuilt" $home/lwc || exit 1
PATH=$home/lwc/bin:$PATH
export PATH

bad() { echo "BAD: $*"; failed=1; }
failed=0
sh freebsd-prebuilt/vagrant/provision.sh load || exit 1

# Not with tee(1) alone: the status is the script's.
{ as_user sh lwc/vagrant/provision.sh "$@"; echo $? >status; } 2>&1 | tee log
[ "$(cat status)" = 0 ] || bad "the steps ended with $(cat status)"
case " $* " in
*" audit ")
	[ "$(grep . log | tail -n 1)" = 'every attempt beyond the grants failed' ] ||
	    bad 'the matrix does not come last'
	;;
esac
# Functions are rolled back in place, those with secrets, too: each has a context
# and a copy, however often it runs.
upload=lwc/examples/upload
before=$(sysctl -n kern.lwc.creations)
as_user lwc/bin/lwc-orchestrator run $upload/chain.toml \
    --input $upload/picture.png.signed --repeat 20 >thumbnail.png ||
    bad 'the example does not run'
made=$(($(sysctl -n kern.lwc.creations) - before))
[ $made = 6 ] || bad "20 runs of three functions made $made contexts, not 6"
# Functions call functions, and what becomes of it (orchestrator/tests/calls.rs has
# many more of these, for machines with a compiler).
calls=lwc/examples/calls
for way in fresh kept; do
	while IFS='|' read -r input expected; do
		printf %s "$input" >$home/input
		answer=$(as_user lwc/bin/lwc-orchestrator run $calls/chain.toml \
		    $way --input $home/input 2>err) ||
		    bad "calls: $way: $input: $(cat err)"
		# A pattern.
		# shellcheck disable=SC2254
		case $answer in
		$expected) ;;
		*) bad "calls: $way: $input: $answer, not $expected" ;;
		esac
	done <<'END'
call left {call deep {caller};call right {call deep {caller}}}|leftright
attr left x-one 1;call left {attrs};call left {attrs}|(x-one=1)
call left {say body;fail 7 why};say .|[[]1 7 left: reported an error: why (code 7)]body.
call right {crash};call right {say again}|[[]2 0 right: *]again
call right {spin 60000};say on|[[]3 0 right: overran its timeout of 300ms]on
call left {must right {spin 60000}}|[[]3 0 right: left → right: overran its timeout of 300ms]
call deep {say x};call nobody {say x}|[[]5 0 deep: *][[]5 0 nobody: *]
call left {claim 65537}|[[]6 0 left: claims an answer of 65537 bytes*
start left {say a};start right {say b};finish 1;finish 0|btext/scriptatext/script
place left {say hello};times 1000 right {say x}|hello1000;x
END
done
printf 'call left {stash s;count};call left {loot;count}' >$home/input
answer=$(as_user lwc/bin/lwc-orchestrator run $calls/chain.toml fresh \
    --input $home/input --repeat 3)
[ "$answer" = 111111 ] || bad "calls: rolled back between two calls: $answer"
before=$(sysctl -n kern.lwc.creations)
printf 'times 1000 left {stash s}' >$home/input
as_user lwc/bin/lwc-orchestrator run $calls/chain.toml fresh --input $home/input ||
    bad 'calls: a thousand'
made=$(($(sysctl -n kern.lwc.creations) - before))
# Those that are not called have no copy.
[ $made = 6 ] || bad "1000 calls of one function made $made contexts, not 6"
as_user lwc/bin/lwc-orchestrator audit $calls/chain.toml >audit.log 2>&1 ||
    bad "calls: $(cat audit.log)"
left=$(ps -axo uid,pid,command | awk -v user=$user '$1 == user')
[ -z "$left" ] || bad "left behind: $left"
for count in contexts descriptors; do
	now=$(sysctl -n kern.lwc.$count)
	[ "$now" = 0 ] || bad "kern.lwc.$count is $now"
done
kldunload lwc || bad 'the module cannot be unloaded'
[ $failed = 0 ] && echo 'all steps as an ordinary user: good'
exit $failed
