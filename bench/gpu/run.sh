#!/usr/bin/env bash
# Runs on a bare machine with an NVIDIA driver what "make gpu-bundle" gathered: no Go, no toolkit. Writes report/ beside
# itself: one log for each part, and SUMMARY.md, which says of each part whether it passed, failed or did not run.
#
#   run.sh [part ...]        parts: contract ops graphs pipelines sanitizer bench peers; default all but peers
#
# On compute capability 9.0, ops, pipelines and benchmarks run a second time with that capability's kernels, which have to be
# asked for; their logs end in -hopper. Every command has a limit of time: a kernel that waits forever is a failed part.
#
# peers compares with diffusers and needs Python with torch, transformers and accelerate. It takes hours; where a run may not
# take long, PEERS has arguments for peers/gpu.py that divide it, and the parts are gathered in one report/gpu.json:
# PEERS="--families sdxl --variants resident 'sequential offload'".
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/report}
[ ! -f "$here/parts.tar.xz" ] || [ -x "$here/parts/euryale" ] || { mkdir -p "$here/parts" && tar -C "$here/parts" -xJf "$here/parts.tar.xz"; } || exit 1
here=$here/parts
models=${EURYALE_MODELS:-/tmp/euryale-models}
mkdir -p "$out" "$models"
out=$(cd "$out" && pwd)
export GPU=1 EURYALE_GOLDEN=$here/golden EURYALE_MODELS=$models
parts=${*:-contract ops graphs pipelines sanitizer bench}

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
	if timeout --kill-after=30 "${LIMIT:-20m}" "$@" >"$out/$name.log" 2>&1; then
		echo "- $name: passed, $((SECONDS - begin)) s" >>"$out/SUMMARY.md"
	else
		echo "- $name: FAILED ($?), $((SECONDS - begin)) s; see $name.log" >>"$out/SUMMARY.md"
	fi
}

# both NAME COMMAND...: with the kernels that are the default and, where there are others, with those.
both() {
	local name=$1
	shift
	part "$name" "$@"
	[ "$capability" != 9.0 ] || part "$name-hopper" env EURYALE_HOPPER=1 "$@"
}
capability=$(nvidia-smi --id=0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d ' ')

cd "$here"
for p in $parts; do
	case $p in
	contract) part contract ./contract ;;
	ops) LIMIT=5m both ops ./ops.test -test.run Device -test.v ;;
	graphs) LIMIT=10m both graphs ./graphs.test -test.run 'TestDevice|TapeMachine' -test.v ;;
	pipelines) LIMIT=10m both pipelines ./pipeline.test -test.run TestDevice -test.v ;;
	sanitizer)
		if ! command -v compute-sanitizer >/dev/null; then
			echo "- sanitizer: not run, compute-sanitizer is not there" >>"$out/SUMMARY.md"
			continue
		fi
		for tool in memcheck racecheck initcheck synccheck; do
			part "sanitizer-$tool" compute-sanitizer --tool $tool --error-exitcode 9 ./ops.test -test.run Device
		done
		;;
	bench)
		part doctor ./euryale doctor
		LIMIT=10m both bench-ops ./ops.test -test.run '^$' -test.bench 'Device$'
		part bench-tiles ./ops.test -test.run '^$' -test.bench DeviceTiles
		LIMIT=25m both bench-networks ./bench.test -test.run '^$' -test.bench GPU -test.timeout 20m
		;;
	peers)
		eval "chosen=(${PEERS:-})"
		LIMIT=6h part peers python3 peers/gpu.py --mkmodel ./mkmodel --wheels wheels --models "$models" -o "$out/gpu.json" --append \
			--ops "$here/ops.test" --euryale "$here/euryale generate --device cuda:0 --json --quiet -o {tmp}/out.png" "${chosen[@]}"
		;;
	*) echo "- $p: no such part" >>"$out/SUMMARY.md" ;;
	esac
done
cat "$out/SUMMARY.md"
! grep -q FAILED "$out/SUMMARY.md"
