#!/bin/sh
# check_symbols.sh BINARY...: each asks the driver for nothing but what driver_symbols.txt lists.
set -eu
list=$(dirname "$0")/driver_symbols.txt
for b in "$@"; do
	nm -D --undefined-only "$b" | awk '{print $2}' | grep '^cu[A-Z]' >"$b.symbols" || {
		echo "$b needs no symbol of the driver: is it a gpu build?"
		exit 1
	}
	if grep -vxFf "$list" "$b.symbols"; then
		echo "$b needs the symbols above, which $list does not list"
		exit 1
	fi
	echo "$b: $(grep -c . "$b.symbols") symbols of the driver, all listed"
done
