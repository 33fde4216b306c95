# screenshot_task: Tencent Cloud Live screenshot tasks from SQL
#
#   make && make install          needs PostgreSQL 15 to 18, libcurl 7.80, OpenSSL 3
#   make installcheck             needs a running server; test/check brings its own
#   make folder FOLDER=/to        what extension_control_path and dynamic_library_path of PostgreSQL 18 find
#   make dist                     what is committed, as a distribution for PGXN
#
# Debian packages are made by packaging/deb.

MODULE_big = screenshot_task
OBJS = \
	src/api/actions.o \
	src/api/answer.o \
	src/api/answer_json.o \
	src/api/body.o \
	src/api/error_class.o \
	src/api/role_answer.o \
	src/api/sign.o \
	src/api/task.o \
	src/api/tc3.o \
	src/api/template.o \
	src/config/credentials.o \
	src/config/credentials_environment.o \
	src/config/credentials_file.o \
	src/config/credentials_mapping.o \
	src/config/instance_role.o \
	src/config/option_setters.o \
	src/config/options.o \
	src/config/role_credentials.o \
	src/config/secret_file.o \
	src/config/server.o \
	src/config/sts.o \
	src/config/template_list.o \
	src/config/trust.o \
	src/config/wrapper.o \
	src/net/endpoint.o \
	src/net/http_client.o \
	src/net/http_pool.o \
	src/net/http_reply.o \
	src/net/http_run.o \
	src/net/http_socket.o \
	src/net/http_transfer.o \
	src/net/rate_table.o \
	src/net/rate_window.o \
	src/screenshot_task.o \
	src/settings.o \
	src/shmem/activity.o \
	src/shmem/database_slot.o \
	src/shmem/segment.o \
	src/shmem/statistics.o \
	src/shmem/wakeup.o \
	src/shmem/worker_slot.o \
	src/sql/api_call.o \
	src/sql/arguments.o \
	src/sql/call.o \
	src/sql/enqueue.o \
	src/sql/kept_statement.o \
	src/sql/make_request.o \
	src/sql/new_request.o \
	src/sql/request_parameters.o \
	src/sql/row_triggers.o \
	src/sql/admin_functions.o \
	src/sql/database_commands.o \
	src/sql/tc3_sql.o \
	src/sql/template_call.o \
	src/sql/schedule_trigger.o \
	src/sql/trigger_arguments.o \
	src/sql/wait.o \
	src/sql/wake.o \
	src/sql/withdraw.o \
	src/sql/withdrawal_notes.o \
	src/table/change.o \
	src/table/claim.o \
	src/table/in_doubt.o \
	src/table/notify.o \
	src/table/origin.o \
	src/table/orphans.o \
	src/table/skip_list.o \
	src/table/request_table.o \
	src/table/result.o \
	src/table/statement.o \
	src/table/status.o \
	src/table/transaction.o \
	src/table/upkeep.o \
	src/table/withdrawing.o \
	src/util/backoff.o \
	src/util/text.o \
	src/util/statement.o \
	src/util/subtransaction.o \
	src/worker/background_worker.o \
	src/worker/breaker.o \
	src/worker/catalog_changes.o \
	src/worker/channel.o \
	src/worker/channel_domain.o \
	src/worker/channel_fallback.o \
	src/worker/channel_fault.o \
	src/worker/channel_job.o \
	src/worker/channel_options.o \
	src/worker/counting.o \
	src/worker/database.o \
	src/worker/dispatch.o \
	src/worker/expiry.o \
	src/worker/launcher.o \
	src/worker/log_throttling.o \
	src/worker/lookup.o \
	src/worker/lookup_order.o \
	src/worker/outcomes.o \
	src/worker/removal.o \
	src/worker/renewal.o \
	src/worker/resolution.o \
	src/worker/scan.o \
	src/worker/status_change.o \
	src/worker/submission.o \
	src/worker/template_check.o \
	src/worker/submission_claim.o \
	src/worker/withdrawal.o \
	src/worker/work.o \
	src/worker/worker.o \
	src/worker/worker_settings.o

ifdef CRASH_POINTS
OBJS += src/util/crash_point.o
PG_CPPFLAGS += -DCRASH_POINTS
endif

EXTENSION = screenshot_task
DATA = screenshot_task--1.0.sql
PGFILEDESC = "screenshot_task - Tencent Cloud Live screenshot tasks from SQL"

REGRESS = install setup member tc3 server parameter call template preview constraint table reference \
	steer trigger trigger_error schedule security_privileges security_search_path security_forgery security_visibility security_as_owner alter endpoint version teardown
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CONFIG ?= pg_config
PKG_CONFIG ?= pkg-config

# The server's headers are not ours to be warned of.
PG_CPPFLAGS += -I$(srcdir)/src -isystem $(shell $(PG_CONFIG) --includedir-server) \
	$(shell $(PKG_CONFIG) --cflags libcurl libssl libcrypto)
# What PostgreSQL does not look up by name is nobody else's: other modules may have functions of the same names.
PG_CFLAGS = -Wall -Wextra -fvisibility=hidden
# What a server lacks is missed when the library is loaded, and not in the middle of a session.
SHLIB_LINK = -Wl,-z,now $(shell $(PKG_CONFIG) --libs libcurl libssl libcrypto)

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS tracks no headers.
$(OBJS): $(wildcard $(srcdir)/src/*.h $(srcdir)/src/*/*.h)

# The server looks for bitcode in its own folder alone.
.PHONY: folder
folder:
	$(MAKE) install with_llvm=no datadir=$(FOLDER)/share pkglibdir=$(FOLDER)/lib

.PHONY: dist
dist: distribution = $(shell sed -n 's/^   "\(name\|version\)": "\(.*\)",$$/\2/p' $(srcdir)/META.json | paste -sd -)
dist:
	git -C $(srcdir) archive --format=zip --prefix=$(distribution)/ --output=$(CURDIR)/$(distribution).zip HEAD
