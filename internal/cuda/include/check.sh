#!/bin/sh
# Compares our header with a toolkit's: check.sh FOLDER, the one with the toolkit's cuda.h. Every enumerator has the
# toolkit's number, every function the toolkit's type, every structure the toolkit's layout.
set -eu
here=$(dirname "$0")
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Tensor maps came with CUDA 12.
maps=
if grep -q cuTensorMapEncodeTiled "$1"/cuda.h; then maps=$here/cuda_tensor_map.h; fi

{
	echo '#include <cuda.h>'
	grep -ohE 'CU[A-Za-z0-9_]+ = [0-9]+' "$here"/cuda_enums.h $maps | grep -v FLAGS_MASK | sed -E 's/(.*) = (.*)/_Static_assert(\1 == \2, "\1");/'
	# A second declaration of a function must agree with the first; CUDA 12
	# gave the parameter of cuGraphAddKernelNode two more fields.
	grep -hE '^CUresult cu' "$here"/cuda.h $maps | grep -v cuGraphAddKernelNode
} >"$tmp/declarations.c"
${CC:-gcc} -I"$1" -Wno-deprecated-declarations -fsyntax-only "$tmp/declarations.c"

{
	echo '#include <cuda.h>'
	echo '#include <stddef.h>'
	echo '#include <stdio.h>'
	cat <<-"END"
		#define SHOW(s) printf("%s %zu\n", #s, sizeof(s))
		#define FIELD(s, f) printf("%s.%s %zu\n", #s, #f, offsetof(s, f))
		int main(void) {
	END
	sed -nE 's/^} (CUDA_[A-Z0-9_]+);/  SHOW(\1);/p' "$here"/cuda.h | grep -v KERNEL_NODE
	for s in CUDA_MEMCPY2D CUDA_MEMCPY3D; do
		for f in srcMemoryType srcArray srcPitch dstXInBytes dstHost dstPitch WidthInBytes Height; do
			echo "  FIELD($s, $f);"
		done
	done
	echo '}'
} >"$tmp/layout.c"
${CC:-gcc} -I"$here" "$tmp/layout.c" -o "$tmp/ours"
${CC:-gcc} -I"$1" "$tmp/layout.c" -o "$tmp/theirs"
"$tmp/ours" >"$tmp/ours.txt"
"$tmp/theirs" >"$tmp/theirs.txt"
diff "$tmp/ours.txt" "$tmp/theirs.txt"
echo "$(grep -c . "$tmp/declarations.c") declarations and $(grep -c . "$tmp/ours.txt") sizes agree with $1"
