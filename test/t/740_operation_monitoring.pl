# Monitoring: the exporter and the Prometheus that Debian packages, with our queries, rules and dashboard.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = "$FindBin::RealBin/../../docs/monitoring";
my $dir    = PostgreSQL::Test::Utils::tempdir('monitoring');
my $api    = LiveApi->new;
my $node   = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms');
my $http   = HTTP::Tiny->new(timeout => 30);

# -------------------------------------------------------------------------- Something to show
$node->safe_psql('postgres', 'CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $api, requests_per_second => 50);
$node->add_server('lossy', $api, in_doubt => 'hold', ca_file => $api->ca_file_copy);
$node->add_server('nowhere', $api, endpoint => 'https://127.0.0.1:1');
$node->add_server('tencent_live', $api, dbname => 'other');
$node->add_server('unused', $api, dbname => $_) for qw(postgres other);
$api->order(fault => 'error=InvalidParameter', stream => 'wrong');
$api->order(fault => 'close', stream => 'lost', action => 'CreateScreenshotTask');
$node->safe_psql('postgres', insert_sql(rows => 5) . insert_sql(stream_name => 'wrong') . insert_sql(stream_name => 'lost', server => 'lossy')
	  . insert_sql(rows => 3, start_time => \"now() + interval '9 d'", end_time => \"now() + interval '9 d 1 h'")
	  . insert_sql(rows => 2, stream_name => 'stuck', server => 'nowhere'));
$node->safe_psql('other', insert_sql(rows => 4));
$node->try(call_sql());
ok($node->wait_for_table("status <> 'pending' OR server = 'nowhere' OR start_time IS NOT NULL"), 'there is something to show');
ok($node->wait_for_table("status = 'created'", dbname => 'other'), 'in two databases');
$node->safe_psql('other', 'COPY screenshot_task_request (stream_name, domain_name, app_name, end_time, template_id, requested_by, requested_at, stamp)'
	  . q{ FROM PROGRAM $$printf 'copied\td\ta\t2999-07-10 13:00Z\t1\tpostgres\t2999-07-10 12:30Z\t1\n'$$});
$node->set('screenshot_task.sweep_interval' => '1s');
ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM screenshot_task_worker WHERE datname = 'other' AND held = 1)
	AND EXISTS (SELECT FROM screenshot_task_worker WHERE datname = 'postgres' AND (pending, waiting, in_doubt, pauses, state) = (5, 3, 1, 1, 'paused'))}), 'and the views show it')
  or diag $node->safe_psql('postgres', 'TABLE screenshot_task_worker');

# ------------------------------------------------------------------------------- The exporter
# With its own settings, as the page says; without what it has to say of PostgreSQL itself.
my $port = PostgreSQL::Test::Cluster::get_free_port();
{
	local $ENV{DATA_SOURCE_NAME} = 'user=watcher dbname=postgres host=' . $node->host . ' port=' . $node->port;
	LiveApi::spawn([ 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$port", '--disable-default-metrics', '--disable-settings-metrics',
			"--extend.query-path=$folder/queries.yaml" ], "$dir/exporter.out", "$dir/exporter.err");
}

# What it gives: for each metric its type, and by labels its values.
sub scrape
{
	my $text = $http->get("http://127.0.0.1:$port/metrics")->{content};
	my %metrics;

	$metrics{$1}{type} = $2 while $text =~ /^# TYPE (screenshot_task_\w+) (\w+)$/mg;
	while ($text =~ /^(screenshot_task_\w+)\{(.*)\} (\S+)$/mg)
	{
		my ($name, $labels, $value) = ($1, $2, $3);
		my %label = $labels =~ /(\w+)="(.*?)"/g;

		$metrics{$name}{values}{ join ' ', grep { defined } @label{qw(datname foreign_server)} } = $value;
	}
	return \%metrics;
}

ok(wait_until(sub { scrape()->{screenshot_task_worker_up} }), 'the exporter answers') or diag slurp_file("$dir/exporter.err");
my $metrics = scrape();
my ($query, %wanted);
for (split /\n/, slurp_file("$folder/queries.yaml"))
{
	$query = $1 if /^(\w+):/;
	my $metric = "${query}_$1" if /^    - (\w+):$/;
	$wanted{last} = $metric if $metric;
	$wanted{types}{ $wanted{last} } = lc $1 if /^        usage: (GAUGE|COUNTER)$/;
}
is_deeply({ map { $_ => $metrics->{$_}{type} } keys %$metrics }, $wanted{types}, 'a role that is only a member of pg_monitor gets all metrics, with their types');

# What it says is what the views say.
sub shown { return $node->rows("SELECT * FROM $_[0]") }
sub seconds { return defined $_[0] ? $node->safe_psql('postgres', "SELECT extract(epoch FROM interval '$_[0]')::float8") : 'NaN' }
for my $row (shown('screenshot_task_worker'))
{
	my $of = sub { $metrics->{"screenshot_task_worker_$_[0]"}{values}{ $row->{datname} } };

	is($of->($_), $row->{$_}, "$row->{datname}: $_") for qw(waiting in_doubt held pauses in_flight);
	is($of->('ready'), $row->{pending} - $row->{waiting}, "$row->{datname}: ready");
	is($of->('up'),    1, "$row->{datname}: up");
	is($of->('paused'), $row->{state} eq 'paused' ? 1 : 0, "$row->{datname}: paused");
	is($of->($_), 0, "$row->{datname}: $_") for qw(not_running disabled blocked);
	if (defined $row->{oldest_age}) { cmp_ok($of->('oldest_age_seconds'), '>', 0, "$row->{datname}: oldest_age") }
	else                            { is($of->('oldest_age_seconds'), 0, "$row->{datname}: oldest_age") }
	is($of->('drain_time_seconds') =~ s/^\+?Inf$//r, seconds($row->{drain_time}), "$row->{datname}: drain_time") if $row->{datname} eq 'other';
	cmp_ok($of->('last_error_timestamp_seconds'), defined $row->{last_error_at} ? '>' : '==', defined $row->{last_error_at} ? time - 600 : 0, "$row->{datname}: last_error_at");
}
for my $row (shown('screenshot_task_stat'))
{
	my $of = sub { $metrics->{"screenshot_task_stat_$_[0]"}{values}{"$row->{datname} $row->{server}"} };

	# It is tried to be reached all the time.
	is($of->("${_}_total"), $row->{$_}, "$row->{datname} $row->{server}: $_")
	  for grep { $row->{server} ne 'nowhere' } qw(created failed expired in_doubt found resent postponed throttled calls failed_calls connections);
	is($of->("latency_${_}_seconds"), seconds($row->{"latency_$_"}), "$row->{datname} $row->{server}: latency $_") for qw(p50 p99 max);
}
is_deeply($metrics->{screenshot_task_server_requests_per_second}{values}, { 'postgres tencent_live' => 50, map { ("postgres $_" => 20) } qw(lossy nowhere unused) },
	'the limits are those of the servers');
is($metrics->{screenshot_task_stat_calls_total}{values}{'postgres tencent_live'}, 1, 'there is a call to see');
# A server has its counters at 0 before there is anything to count, and after a reset; until it is dropped.
my $is_0 = sub { my ($of) = @_; my $now = scrape(); return !grep { ($now->{"screenshot_task_stat_${_}_total"}{values}{$of} // 'none') ne '0' } qw(created failed expired in_doubt) };
ok(wait_until(sub { $is_0->($_) }), "$_: at 0 from the first on") for 'postgres unused', 'other unused';
unlike(slurp_file("$dir/exporter.err"), qr/level=error/i, 'the exporter complains of nothing');

# ---------------------------------------------------------------------- Rules and dashboard
my ($output, $errors) = run_command([ 'promtool', 'check', 'rules', "$folder/rules.yaml" ]);
like($output, qr/SUCCESS: \d+ rules found/, 'the rules are valid') or diag $errors;
($output, $errors) = run_command([ 'promtool', 'test', 'rules', "$FindBin::RealBin/../alerts.yaml" ]);
like($output, qr/^  SUCCESS$/m, 'they alert when they should, and only then') or diag $output, $errors;

my $rules     = slurp_file("$folder/rules.yaml");
my $dashboard = decode_json(slurp_file("$folder/dashboard.json"));
my @alerts    = $rules =~ /- alert: (\w+)/g;
my @shown     = map { my $panel = $_; map { [ $panel->{title}, $_->{expr} ] } @{ $panel->{targets} } } @{ $dashboard->{panels} };
my %tested    = map { $_ => 1 } slurp_file("$FindBin::RealBin/../alerts.yaml") =~ /alertname: (\w+)/g;
is_deeply([ sort keys %tested ], [ sort @alerts ], 'each alert is tested');
my %anchors = map { (lc s/[^\w ]//gr =~ s/ /-/gr) => 1 } slurp_file("$folder/../operation.md") =~ /^##+ (.*)$/mg;
is_deeply([ grep { !$anchors{$_} } $rules =~ /runbook_url: .*operation\.md#(\S+)$/mg ], [], 'each runbook is a section of operation.md');
is(scalar(() = $rules =~ /runbook_url:/g), @alerts, 'and each alert has one');
is_deeply([ sort { $a cmp $b } slurp_file("$folder/README.md") =~ /^\| `(ScreenshotTask\w+)`/mg ], [ sort @alerts ], 'and each is described');
for my $used ([ 'the rules', $rules ], map { [ "panel \"$_->[0]\"", $_->[1] ] } @shown)
{
	is_deeply([ grep { !$metrics->{$_} } $used->[1] =~ /\b(screenshot_task_(?:worker|stat|server)_\w+)/g ], [], "$used->[0]: only metrics that there are");
}

# ----------------------------------------------------------------------------- Prometheus
# It evaluates what the dashboard asks for, and the rules, over what the exporter gives.
my $prometheus = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/prometheus.yaml", <<"EOF");
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ $folder/rules.yaml ]
scrape_configs: [ { job_name: postgres, static_configs: [ { targets: [ '127.0.0.1:$port' ] } ] } ]
EOF
LiveApi::spawn([ 'prometheus', "--config.file=$dir/prometheus.yaml", "--storage.tsdb.path=$dir/tsdb", "--web.listen-address=127.0.0.1:$prometheus" ],
	"$dir/prometheus.out", "$dir/prometheus.err");

sub ask
{
	my ($path, %form) = @_;
	my $answer = $http->get("http://127.0.0.1:$prometheus/api/v1/$path?" . $http->www_form_urlencode(\%form))->{content};

	return eval { decode_json($answer) } // { status => $answer };
}
sub results { return scalar @{ ask('query', query => $_[0])->{data}{result} // [] } }
ok(wait_until(sub { results('count_over_time(screenshot_task_worker_up[20s]) > 3') }), 'Prometheus has scraped for a while') or diag slurp_file("$dir/prometheus.err");
for my $panel (@shown)
{
	my $query = $panel->[1] =~ s/\$__rate_interval/20s/gr =~ s/"\$\w+"/".*"/gr;
	my $answer = ask('query', query => $query);

	is($answer->{status}, 'success', "panel \"$panel->[0]\": $query") or diag explain $answer;
	cmp_ok(scalar @{ $answer->{data}{result} // [] }, '>', 0, 'and there is something to see');
}
for my $variable (grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} })
{
	my ($selector, $label) = $variable->{query}{query} =~ /^label_values\((.*), (\w+)\)$/;

	cmp_ok(results('count by (' . $label . ') (' . $selector =~ s/"\$\w+"/".*"/gr . ')'), '>', 0, "variable $variable->{name} has values");
}
sub alerting { return [ sort map { "$_->{labels}{alertname} of $_->{labels}{datname}" } @{ ask('alerts')->{data}{alerts} } ] }
my $expected = [ 'ScreenshotTaskHeld of other', 'ScreenshotTaskInDoubt of postgres', 'ScreenshotTaskLost of postgres', 'ScreenshotTaskPaused of postgres' ];
ok(wait_until(sub { @{ alerting() } == 4 }), 'four alerts are on their way');
is_deeply(alerting(), $expected, 'those that should be');
is_deeply([ grep { $_->{health} ne 'ok' } map { @{ $_->{rules} } } @{ ask('rules')->{data}{groups} } ], [], 'all rules can be evaluated');

# ---------------------------------------------------------------------------------- A reset
$node->safe_psql('postgres', 'SELECT screenshot_task_stat_reset()') for 1 .. 2;
ok(wait_until(sub { $is_0->($_) }), "$_: at 0 after two resets") for 'postgres unused', 'other unused', 'other tencent_live', 'postgres lossy';
$node->safe_psql($_, 'DROP SERVER unused CASCADE') for qw(postgres other);
ok(wait_until(sub { $node->safe_psql('postgres', 'SELECT screenshot_task_stat_reset()'); return !$node->rows(q{SELECT FROM screenshot_task_stat WHERE server = 'unused'}) }),
	'one that was dropped is gone after a reset');
$api->order(fault => 'error=InvalidParameter', stream => 'after the reset');
$node->safe_psql('postgres', 'SELECT screenshot_task_stat_reset();' . insert_sql(stream_name => 'after the reset'));
ok(wait_until(sub { results(q{ALERTS{alertname="ScreenshotTaskLost", alertstate="firing", foreign_server="tencent_live"}}) }), 'what failed right after a reset is noticed');

done_testing();
