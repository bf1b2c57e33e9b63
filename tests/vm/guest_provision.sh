#!/bin/sh
# The steps of provision.sh that need no package, on a real kernel.  From the
# repository, with a module and a C suite built for that kernel:
#
#	tests/vm/run.py vagrant/provision.sh tests/vm/guest_provision.sh \
#	    lwc.ko lwc_stress -- sh guest_provision.sh
set -u

mkdir -p lwc/vagrant lwc/freebsd-kmod
cp provision.sh lwc/vagrant/
cp lwc.ko lwc/freebsd-kmod/

# An image without id(1), as small ones are, has nobody but root.
if ! command -v id >/dev/null; then
	printf '#!/bin/sh\necho 0\n' >id
	chmod 755 id
	PATH=$PWD:$PATH
	export PATH
fi

failed=0
# Status, words on the way, step.
expect() {
	sh lwc/vagrant/provision.sh "$3" >out 2>&1
	status=$?
	cat out
	case $status/$(cat out) in
	$1/*"$2"*) echo "good: $3" ;;
	*) echo "BAD: $3 ended with $status and without '$2'"; failed=1 ;;
	esac
}

expect 1 'lwc.ko is not loaded' audit
expect 0 'lwc.ko is loaded' load
kldstat -q -n lwc.ko || { echo 'BAD: not loaded'; failed=1; }
expect 0 'lwc.ko is loaded' load

./lwc_stress -t 8 >stress 2>&1 &
until [ "$(sysctl -n kern.lwc.contexts)" -gt 0 ]; do
	kill -0 $! || { cat stress; exit 1; }
done
expect 1 'lwc.ko is in use' load
wait
expect 0 'lwc.ko is loaded' load

# Not a module of this kernel, or of any.
kldunload lwc
echo 'not a module' >lwc/freebsd-kmod/lwc.ko
expect 1 'cannot be loaded' load
[ $failed = 0 ] && echo 'provision.sh: all as expected'
exit $failed
