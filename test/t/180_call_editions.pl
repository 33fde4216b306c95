# The vendor's two editions differ in their actions, in whether they ask for a region, and in how far ahead a task may
# lie.  With each: templates, calls, requests and their times, and what becomes of a request in doubt.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my %lacks = (mainland => 0, international => 1);
my %apis  = map { $_ => LiveApi->new('--edition', $_) } keys %lacks;
my $node  = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms', 'screenshot_task.reconcile_spacing' => '300ms');

# Seconds from now
sub in { return \"now() + interval '$_[0] s'" }

for my $edition (sort keys %lacks)
{
	my ($api, $lacks) = ($apis{$edition}, $lacks{$edition});
	my @to = (server => $edition);

	# As the reference says: with the region left out
	$node->add_server($edition, $api, request_timeout => '2s');

	# The whole way: a template, a task, its end
	my $made = $node->try("SELECT template_id FROM create_screenshot_template('pictures', 1250000000, 'bucket', 'ap-guangzhou', server => '$edition')");
	is($made->{error}, undef, "$edition: a template is created");
	my $template = $made->{rows}[0][0];
	is($node->safe_psql('postgres', "SELECT count(*) FROM describe_screenshot_templates('$edition') WHERE template_id = $template"), 1, "$edition: and listed");

	my $called = $node->try(call_sql(@to, template_id => $template, stream_name => 'called'));
	is($called->{error}, undef, "$edition: a task is created");
	for my $call ("SELECT stop_screenshot_task('$called->{rows}[0][0]', '$edition')", "SELECT delete_screenshot_task('$called->{rows}[0][0]', '$edition')",
		"SELECT * FROM describe_screenshot_tasks(now(), now() + interval '1 d', server => '$edition')")
	{
		my ($name) = $call =~ /(\w+_\w+)\(/;
		is($node->try($call)->{error}{sqlstate}, $lacks ? '0A000' : undef, "$edition: $name() " . ($lacks ? 'is not offered' : 'is'));
	}
	is($node->try("SELECT delete_screenshot_template($template, '$edition')")->{error}, undef, "$edition: a template is removed");

	# The longest that may be asked for is what both take; what is later waits, and is not refused.
	for ([ 'six days ahead', 6 * 86400 - 60, 7 * 86400 - 60 ], [ 'a day long', 60, 86460 ], [ 'now', undef, 86400 ])
	{
		my ($name, $start, $end) = @$_;

		is($node->try(call_sql(@to, stream_name => $name, end_time => in($end), defined $start ? (start_time => in($start)) : ()))->{error}, undef, "$edition: a call for a task $name");
	}
	for ([ 'over six days ahead', 6 * 86400 + 60, 6 * 86400 + 120 ], [ 'seven days ahead', 7 * 86400, 7 * 86400 + 60 ])
	{
		my ($name, $start, $end) = @$_;

		is($node->try(call_sql(@to, stream_name => $name, start_time => in($start), end_time => in($end)))->{error}{sqlstate}, '22023', "$edition: not for one $name");
		$node->safe_psql('postgres', insert_sql(@to, stream_name => $name, start_time => in($start), end_time => in($end)));
	}
	is($api->requests(stream_name => 'over six days ahead'), 0, "$edition: which is not sent");
	$node->safe_psql('postgres', insert_sql(@to, stream_name => 'row', rows => 3));
	ok($node->wait_for_table("status = 'created'", where => "server = '$edition' AND start_time IS NULL"), "$edition: rows become tasks");
	is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE server = '$edition' AND status = 'pending' AND next_attempt_at > now()"), 2,
		"$edition: those that start later wait");

	# A region has no effect in the edition that does not ask for one.
	$node->add_server("$edition elsewhere" =~ s/ /_/r, $api, region => 'eu-frankfurt');
	is($node->try(call_sql(server => "${edition}_elsewhere", stream_name => 'elsewhere'))->{error}{sqlstate}, $lacks ? undef : '0A000', "$edition: another region");

	# In doubt: settled where there is a list of tasks, left to a person where there is none
	$api->order(fault => 'close,create', stream => 'in doubt', action => 'CreateScreenshotTask');
	$node->safe_psql('postgres', insert_sql(@to, stream_name => 'in doubt'));
	ok($node->wait_for_table($lacks ? "status = 'in_doubt' AND next_attempt_at IS NULL AND error_message LIKE '%InvalidAction%'" : "status = 'created'", where => "server = '$edition' AND stream_name = 'in doubt'"),
		"$edition: a request in doubt is " . ($lacks ? 'left to a person' : 'settled'));
	is(scalar $api->ledger(stream_name => 'in doubt'), 1, "$edition: its task was not made twice");
	my ($task) = $api->ledger(stream_name => 'in doubt');
	$node->safe_psql('postgres', "SELECT resolve_screenshot_task_request(id, '$task->{task_id}') FROM screenshot_task_request WHERE stream_name = 'in doubt' AND status = 'in_doubt'");
	is($node->safe_psql('postgres', "SELECT task_id FROM screenshot_task_request WHERE server = '$edition' AND stream_name = 'in doubt' AND status = 'created'"), $task->{task_id},
		"$edition: it has its task");
	is($api->complaints, '', "$edition: the stand-in has nothing to complain of");
	is(scalar $api->requests(outcome => 'InvalidParameterValue'), 0, "$edition: and refused no time");
}

done_testing();
