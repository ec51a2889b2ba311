#!/bin/sh
# outside.sh build compiler
# Installs a build into a temporary prefix and compiles programs that know nothing of this tree but
# what pkg-config says, against the shared and against the static library, and runs them; the program
# runs the model that is installed with it.
set -eu
build=$1 compiler=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >"$work/log" || { cat "$work/log"; exit 1; }
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name gdn.pc)")
export PKG_CONFIG_PATH
library=$(pkg-config --variable=libdir gdn)

cp "$root"/examples/*.c "$work"
cat >"$work/version.c" <<'END'
#include <gdn/gdn.h>
#include <gdn/ops.h>
#include <string.h>

int main(int count, char **words)
{
    gdn_ops *ops;
    struct gdn_error err = {0};
    if (gdn_ops_open("none such", 1, 0, &ops, &err) == GDN_OK || !err.text[0]) return 1;
    return count == 2 && strcmp(gdn_version(), words[1]) == 0 ? 0 : 1;
}
END

# The example that opens gdn.h, as a program; what it must say the installed program says too.
{
    printf '#include <gdn/gdn.h>\n#include <stdio.h>\n\nint main(void)\n{\n'
    sed -n '1,/Calls return/s/^ \* \(    .*\)/\1/p' "$root/include/gdn/gdn.h"
    printf '    return 0;\n}\n'
} >"$work/opening.c"
unset HOME XDG_CONFIG_HOME XDG_DATA_HOME
"$work/prefix/bin/gdn" run demo "Once upon a time" --raw --temp 0 -n 20 2>"$work/log" |
    tr -d '\n' >"$work/said" || { cat "$work/log"; exit 1; }
[ -s "$work/said" ] || { echo "outside: gdn run demo says nothing"; exit 1; }

cd "$work"
mkdir models
ln -s ../prefix/share/gdn/models/demo models/demo
for kind in shared static; do
    flags=$(pkg-config --cflags --libs gdn)
    if [ $kind = static ]; then
        rm "$library"/libgdn.so*
        flags=$(pkg-config --static --cflags --libs gdn)
    fi
    for source in *.c; do
        program=./${source%.c}.$kind
        # shellcheck disable=SC2086
        "$compiler" -std=c17 -Wall -Wextra -Werror "$source" -o "$program" $flags -lm
        LD_LIBRARY_PATH=$library "$program" "$(pkg-config --modversion gdn)" \
            >"$work/out" || { echo "outside: $program failed"; exit 1; }
        case $program in
        ./opening.*) tr -d '\n' <"$work/out" | cmp - "$work/said" ;;
        esac
    done
done
LD_LIBRARY_PATH=$library ldd ./version.static | grep libgdn &&
    { echo "outside: version.static is not static"; exit 1; }
nm -D ./version.shared | grep -q 'U gdn_ops_open' ||
    { echo "outside: version.shared does not use libgdn.so"; exit 1; }
