# A cluster is restored from a copy of its files, and with it requests that have been sent since the copy was made: what
# docs/operation.md says to do keeps them from being sent again, and has the others sent.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');
my $copy = PostgreSQL::Test::Utils::tempdir . '/copy';
my ($recipe) = slurp_file("$FindBin::RealBin/../../docs/operation.md") =~ /^- \*\*A restore of this cluster.*?^  ```sql\n(.*?)^  ```$/ms
  or die 'docs/operation.md has no recipe';

sub copy_files
{
	my ($from, $to) = @_;

	is(system('cp', '-a', $from, $to), 0, "$from is copied") or die;
	return;
}

sub tasks { return { map { $_->{stream_name} => $_->{task_id} } $node->table("status = 'created'") } }

# The copy is made while all of these wait.
$node->add_server('tencent_live', $api, request_timeout => '1s');
$node->set('screenshot_task.enabled' => 'off');
my %with_start = (start_time => \"now() + interval '1 h'", end_time => \"now() + interval '2 h'");
$node->safe_psql('postgres', insert_sql(rows => 3, stream_name => \"'with a start ' || i", %with_start) . insert_sql(rows => 2, stream_name => 'twice the same', %with_start)
	  . insert_sql(stream_name => 'at once') . insert_sql(stream_name => 'withdrawn', %with_start)
	  . insert_sql(stream_name => 'far', start_time => \"now() + interval '30 d'", end_time => \"now() + interval '30 d 1 h'"));
$node->stop;
copy_files($node->data_dir, $copy);

# All are sent but one of the two, and two others.
$node->start;
$node->safe_psql('postgres', q{SELECT cancel_screenshot_task_request(max(id)) FROM screenshot_task_request WHERE stream_name IN ('twice the same', 'withdrawn') GROUP BY stream_name});
$node->set('screenshot_task.enabled' => 'on');
ok($node->wait_for_table("status IN ('created', 'cancelled')", where => "stream_name <> 'far'"), 'what was pending is sent');
my $before = tasks();
is(scalar $api->ledger(event => 'create'), 5, 'and created');

# The files are back; nothing is sent, until it may be.
$node->stop('immediate');
PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $node->data_dir);
copy_files($copy, $node->data_dir);
$node->start;
ok($node->poll_query_until('postgres', q{SELECT state = 'disabled' AND pending = 8 FROM screenshot_task_worker WHERE datname = 'postgres'}), 'after the restore all are pending');
is($node->try($recipe)->{error}, undef, 'the recipe runs');
$node->set('screenshot_task.enabled' => 'on');
ok($node->wait_for_table("status = 'created'", where => "stream_name <> 'far'"), 'all are created that may be');
my %found = %{ tasks() };
is_deeply([ @found{ grep { !/twice/ } sort keys %$before } ], [ @$before{ grep { !/twice/ } sort keys %$before } ], 'those that had been sent have the tasks that they had');
is_deeply({ map { $_ => scalar $api->ledger(stream_name => $_, event => 'create') } 'at once', 'twice the same', 'withdrawn', 'far', map { "with a start $_" } 1 .. 3 },
	{ 'at once' => 1, 'twice the same' => 2, withdrawn => 1, far => 0, map { ("with a start $_" => 1) } 1 .. 3 }, 'and each request has one task');
is(scalar(() = $node->rows(q{SELECT DISTINCT task_id FROM screenshot_task_request WHERE task_id IS NOT NULL})), 7, 'of its own');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
