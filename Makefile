# screenshot_task: Tencent Cloud Live screenshot tasks from SQL
#
#   make && make install          needs PostgreSQL 15 to 18, libcurl 7.80, OpenSSL 3
#   make installcheck             needs a running server; test/check brings its own
#   make dist                     what is committed, as a distribution for PGXN
#
# Debian packages are made by packaging/deb.

MODULE_big = screenshot_task
OBJS = \
	src/activity.o \
	src/call.o \
	src/credentials.o \
	src/dispatch.o \
	src/enqueue.o \
	src/expiry.o \
	src/fault_log.o \
	src/http.o \
	src/lane.o \
	src/launcher.o \
	src/legible.o \
	src/live_api.o \
	src/machine_role.o \
	src/news.o \
	src/notice.o \
	src/rate_limit.o \
	src/reconcile.o \
	src/refusal.o \
	src/removal.o \
	src/renewal.o \
	src/request_queue.o \
	src/role_answer.o \
	src/screenshot_task.o \
	src/seal.o \
	src/server.o \
	src/shared_state.o \
	src/statistics.o \
	src/steer.o \
	src/step_aside.o \
	src/submission.o \
	src/tc3.o \
	src/tc3_sql.o \
	src/trigger.o \
	src/wait.o \
	src/wake.o \
	src/worker.o

ifdef CRASH_POINTS
OBJS += src/crash_point.o
PG_CPPFLAGS += -DCRASH_POINTS
endif

EXTENSION = screenshot_task
DATA = screenshot_task--1.0.sql
PGFILEDESC = "screenshot_task - Tencent Cloud Live screenshot tasks from SQL"

REGRESS = install setup member tc3 server parameter call preview constraint table reference \
	steer trigger trigger_error privileges search_path forge leak alter endpoint version teardown
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CONFIG ?= pg_config
PKG_CONFIG ?= pkg-config

# The server's headers are not ours to be warned of.
PG_CPPFLAGS += -isystem $(shell $(PG_CONFIG) --includedir-server) \
	$(shell $(PKG_CONFIG) --cflags libcurl libcrypto)
PG_CFLAGS = -Wall -Wextra
# What a server lacks is missed when the library is loaded, and not in the middle of a session.
SHLIB_LINK = -Wl,-z,now $(shell $(PKG_CONFIG) --libs libcurl libcrypto)

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no headers.
$(OBJS): $(wildcard $(srcdir)/src/*.h)

.PHONY: dist
dist: distribution = $(shell sed -n 's/^   "\(name\|version\)": "\(.*\)",$$/\2/p' $(srcdir)/META.json | paste -sd -)
dist:
	git -C $(srcdir) archive --format=zip --prefix=$(distribution)/ --output=$(CURDIR)/$(distribution).zip HEAD
