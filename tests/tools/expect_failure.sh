#!/bin/sh
# expect_failure.sh program arguments...
# Succeeds when the program ends by itself, unsuccessfully, with a cmocka test that FAILED.
# A crash, a missing library or a sanitizer report is not the failure that a mutant must show.
output=$("$@" 2>&1)
status=$?
printf '%s\n' "$output"
if [ $status -eq 0 ]; then
    echo "expect_failure: every test passed: the suite does not see this mutant"
    exit 1
fi
if [ $status -ge 126 ]; then
    echo "expect_failure: the program did not run to its end (status $status)"
    exit 1
fi
case $output in
*"[  FAILED  ]"*) exit 0 ;;
esac
echo "expect_failure: status $status, but no test says FAILED"
exit 1
