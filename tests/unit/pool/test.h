/* test.h - what every test of pool/ includes, in the order that cmocka wants. */
#ifndef FAR_TESTS_UNIT_POOL_TEST_H
#define FAR_TESTS_UNIT_POOL_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/support/log_capture.h"
#include "tests/support/pool_rig.h"

#define KIB 1024U
#define MIB (1024U * 1024U)

#endif
