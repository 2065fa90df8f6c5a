#!/usr/bin/env bash
# Runs on a bare machine with an NVIDIA driver what "make gpu-bundle" gathered: no Go, no toolkit. Writes report/ beside
# itself: one log for each part, and SUMMARY.md, which says of each part whether it passed, failed or did not run.
#
#   run.sh [part ...]        parts: contract ops pipelines sanitizer bench peers; default all but peers
#
# peers compares with diffusers and needs Python with torch, transformers and accelerate. Where a run may not take long, PEERS
# has arguments for peers/gpu.py that divide it: PEERS="--families sdxl --variants resident".
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/report}
[ ! -f "$here/parts.tar.xz" ] || [ -x "$here/parts/euryale" ] || { mkdir -p "$here/parts" && tar -C "$here/parts" -xJf "$here/parts.tar.xz"; } || exit 1
here=$here/parts
models=${EURYALE_MODELS:-/tmp/euryale-models}
mkdir -p "$out" "$models"
out=$(cd "$out" && pwd)
export GPU=1 EURYALE_GOLDEN=$here/golden EURYALE_MODELS=$models
parts=${*:-contract ops pipelines sanitizer bench}

{
	echo "# GPU run, $(date -u +%F)"
	echo
	nvidia-smi --query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current --format=csv,noheader 2>/dev/null || echo "nvidia-smi: not there"
	echo
} >"$out/SUMMARY.md"

# part NAME COMMAND...
part() {
	local name=$1 begin=$SECONDS
	shift
	if "$@" >"$out/$name.log" 2>&1; then
		echo "- $name: passed, $((SECONDS - begin)) s" >>"$out/SUMMARY.md"
	else
		echo "- $name: FAILED ($?), $((SECONDS - begin)) s; see $name.log" >>"$out/SUMMARY.md"
	fi
}

cd "$here"
for p in $parts; do
	case $p in
	contract) part contract ./contract ;;
	ops) part ops ./layers.test -test.run Device -test.v ;;
	pipelines) part pipelines ./graphs.test -test.run 'TestDevice|TapeMachine' -test.v ;;
	sanitizer)
		if ! command -v compute-sanitizer >/dev/null; then
			echo "- sanitizer: not run, compute-sanitizer is not there" >>"$out/SUMMARY.md"
			continue
		fi
		for tool in memcheck racecheck initcheck synccheck; do
			part "sanitizer-$tool" compute-sanitizer --tool $tool --error-exitcode 9 ./layers.test -test.run Device
		done
		;;
	bench)
		part doctor ./euryale doctor
		part bench-ops ./layers.test -test.run '^$' -test.bench 'Device$'
		part bench-tiles ./layers.test -test.run '^$' -test.bench DeviceTiles
		part bench-networks ./bench.test -test.run '^$' -test.bench GPU -test.timeout 20m
		;;
	peers)
		part peers python3 peers/gpu.py --mkmodel ./mkmodel --wheels wheels --models "$models" -o "$out/gpu.json" \
			--layers "$here/layers.test" --euryale "$here/euryale generate --device cuda:0 --json --quiet -o {tmp}/out.png" ${PEERS:-}
		;;
	*) echo "- $p: no such part" >>"$out/SUMMARY.md" ;;
	esac
done
cat "$out/SUMMARY.md"
! grep -q FAILED "$out/SUMMARY.md"
