# The documentation says what there is: the reference what the catalog, the validator and the settings say; all pages name
# only what exists, and link to what exists; the README is short; and all files have one version.

use strict;
use warnings;

use Cwd qw(abs_path);
use Encode qw(decode_utf8 encode_utf8);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = abs_path("$FindBin::RealBin/../..");
my $node = ScreenshotTaskTest->start_new('main');

sub file { return slurp_file("$top/$_[0]") }

my %page = map { $_ => file($_) } map { s{^\Q$top\E/}{}r } glob "$top/*.md $top/docs/*.md $top/docs/monitoring/*.md";
# Pages on building and measuring name packages and files as well.
my @pages_on_use = grep { /^README|(?:guide|reference|operation|security|design)/ } sort keys %page;

# ---------------------------------------------------------------------- What is generated
# The settings are those of a server that sets none.
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGDATABASE} = 'postgres';
	my ($generated, $errors) = run_command([ "$top/docs/generate", '--print' ]);

	is($errors, '', 'docs/generate has a part for everything');
	is_deeply([ split /\n/, $generated, -1 ], [ split /\n/, $page{'docs/reference.md'} =~ s/\n\z//r, -1 ],
		'docs/reference.md is what docs/generate writes');
}
unlike($page{'docs/reference.md'}, qr/\| *\|\n(?!\| ---)/, 'nothing is without a comment');

# ------------------------------------------------------------------------------- Parameters
# What is written by hand about a function speaks of all its parameters.
for my $function ($node->rows(q{SELECT proname, proargnames FROM pg_proc JOIN pg_depend ON objid = pg_proc.oid AND classid = 'pg_proc'::regclass AND deptype = 'e'
	JOIN pg_extension AS e ON refobjid = e.oid AND extname = 'screenshot_task'
	WHERE proname NOT IN ('screenshot_task_stat', 'screenshot_task_worker', 'screenshot_task_request_origin') AND proargnames IS NOT NULL}))
{
	my ($prose) = $page{'docs/reference.md'} =~ /^<!-- function $function->{proname} -->\n.*?^<!-- end -->\n(.*?)(?=^<!--|\z)/ms;
	my ($section) = $page{'docs/reference.md'} =~ /^## Calls\n(.*?)^<!--/ms;
	my ($following) = $page{'docs/reference.md'} =~ /^### Following\n(.*?)^<!--/ms;
	# A preview has the parameters of the call before it.
	my ($before) = $function->{proname} eq 'preview_screenshot_task' ? $page{'docs/reference.md'} =~ /^<!-- function create_screenshot_task -->(.*?)^<!-- function/ms : '';

	is_deeply([ grep { "$prose $section $following $before" !~ /`$_`/ && !/^(?:url|body)$/ } @{ $function->{proargnames} } ], [],
		"all parameters of $function->{proname} are described");
}
for my $parameter ($node->try('CREATE TABLE a (i int); CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger(\'x\'); INSERT INTO a VALUES (1)')
	->{error}{hint} =~ /(\w+)(?=[,.])/g)
{
	my ($section) = $page{'docs/reference.md'} =~ /^### The trigger\n(.*?)^### /ms;

	like($section, qr/`$parameter`/, "the trigger's parameter $parameter is described");
}

# ---------------------------------------------------------------------------------- Options
# A table of Markdown: of each row its cells, without backquotes.
sub rows_of
{
	my ($text, $heading) = @_;
	my ($table) = $text =~ /^\| \Q$heading\E \|.*\n\|[ -|]+\n((?:\|.*\n)+)/m or return;

	return map { [ map { s/`//gr } (split / *\| */, $_, -1)[ 1 .. tr/|// - 1 ] ] } split /\n/, $table;
}

sub hint_of
{
	my ($sql) = @_;
	my ($names) = $node->try($sql)->{error}{hint} =~ /^Valid options in this context are: (.*)/;

	return split /, /, $names;
}

my @server_options = hint_of(q{CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (x '1')});
my ($server_table, $mapping_table) =
  map { [ rows_of($_, 'option | default | allowed') ] } split /^Options of a user mapping/m, $page{'docs/reference.md'};
is_deeply([ map { $_->[0] } @$server_table ], \@server_options, 'all options of servers are described, in order');
is_deeply([ map { $_->[0] } @$mapping_table ], [ hint_of(q{CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud; CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (x '1')}) ],
	'and those of user mappings');

# Defaults and limits are accepted, and what is beyond the limits is not.
sub accepts
{
	my ($option, $value) = @_;

	return !$node->try("BEGIN; CREATE SERVER s2 FOREIGN DATA WRAPPER tencent_cloud OPTIONS ($option " . literal($value) . '); ROLLBACK')->{error};
}
for my $row (@$server_table)
{
	my ($option, $default, $allowed) = @$row;

	ok(accepts($option, $default), "$option: the default is accepted") if $default ne 'none';
	if ($allowed =~ /^(\d+)(m?s?) to (\d+)((?:min|s)?)$/)
	{
		ok(accepts($option, $_), "$option: $_ is accepted") for "$1$2", "$3$4";
		ok(!accepts($option, $_), "$option: $_ is not") for ($1 - 1) . $2, ($3 + 1) . $4;
	}
	elsif ($allowed =~ /^[\w-]+(?:, [\w-]+)+$/ && $default ne 'none')
	{
		my ($detail) = $node->try("CREATE SERVER s2 FOREIGN DATA WRAPPER tencent_cloud OPTIONS ($option 'x')")->{error}{detail};

		is_deeply([ split /, /, $allowed ], [ $detail =~ /"([^"]+)"/g ], "$option: the values are those that are allowed");
	}
}
$node->safe_psql('postgres', q{CREATE SERVER plain FOREIGN DATA WRAPPER tencent_cloud; CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS (secret_id 'i', secret_key 'k')});
my ($preview) = $node->rows(q{SELECT * FROM preview_screenshot_task('s', 'd', 'a', now() + interval '1 h', 1, server => 'plain')});
my %default = map { @$_[ 0, 1 ] } @$server_table;
is($preview->{url}, "$default{endpoint}/", 'the default endpoint is the one that is used');
ok((grep { $_ eq "X-TC-Language: $default{language}" } @{ $preview->{headers} }), 'and the default language');

# --------------------------------------------------------------------------------- Settings
my %settings = map { @$_[ 0, 1 ] } rows_of($page{'docs/reference.md'}, 'setting | default | allowed');
is_deeply([ sort keys %settings ], [ map { $_->{name} } $node->rows(q{SELECT name FROM pg_settings WHERE name LIKE 'screenshot\_task.%' ORDER BY name COLLATE "C"}) ],
	'all settings are described');

# ---------------------------------------------------------------- Statuses, states, functions
my @statuses = map { $_->{s} } $node->rows('SELECT unnest(enum_range(NULL::screenshot_task_status)) AS s');
is_deeply([ map { $_->[0] } rows_of($page{'docs/operation.md'}, 'status | what it means | what to do') ], \@statuses, 'docs/operation.md: all statuses, and no others');
my ($state_comment) = $node->rows(q{SELECT col_description('screenshot_task_worker'::regclass, attnum) AS c FROM pg_attribute WHERE attrelid = 'screenshot_task_worker'::regclass AND attname = 'state'});
is_deeply([ sort map { $_->[0] } rows_of($page{'docs/operation.md'}, 'state | what it means | what to do') ],
	[ sort map { s/:.*//r } split /; /, $state_comment->{c} ], 'docs/operation.md: all states of a worker, and no others');

my @functions = map { $_->{proname} } $node->rows(q{SELECT proname FROM pg_proc JOIN pg_depend ON objid = pg_proc.oid AND classid = 'pg_proc'::regclass AND deptype = 'e'
	JOIN pg_extension AS e ON refobjid = e.oid AND extname = 'screenshot_task'});
my %columns = map { $_->{a} => 1 } $node->rows(q{SELECT attname AS a FROM pg_attribute WHERE attrelid = 'screenshot_task_request'::regclass AND attnum > 0});

# What looks like one of ours is one of ours.
my %known = map { $_ => 1 } @functions, @statuses, keys %columns, @server_options, 'screenshot_task', 'screenshot_tasks', 'screenshot_task_status', 'screenshot_task_request',
  map { $_->{n} } $node->rows(q{SELECT relname AS n FROM pg_class WHERE relname LIKE 'screenshot%' UNION ALL SELECT substr(name, 17) FROM pg_settings WHERE name LIKE 'screenshot%'});
for my $name (@pages_on_use)
{
	my %said = map { $_ => 1 } $page{$name} =~ /(?<![\w.\/])(\w*screenshot_tasks?\w*)/g, $page{$name} =~ /(?<=screenshot_task\.)(\w+)(?= |`|,)/g;
	is_deeply([ sort grep { !$known{$_} } keys %said ], [], "$name: names nothing that there is not");
}

# Wait events are known to nobody until there is a wait: those that a test waits for, and that of wait_for_screenshot_task().
my %waits = map { ("ScreenshotTask$_" => 1) } 'Result', slurp_file("$FindBin::RealBin/750_operation_wait_events.pl") =~ /^waits(?:_while)?\('(\w+)'/mg;
is_deeply([ sort map { $_->[0] } rows_of($page{'docs/reference.md'}, 'wait event') ], [ sort keys %waits ], 'all wait events are described');

# What the log says is in the library, but for what is filled in: the words between these are.
my $library = slurp_file($node->config_data('--pkglibdir') . '/screenshot_task.so') =~ s/%s//gr;
for my $line (rows_of($page{'docs/operation.md'}, 'line | level | what to do'))
{
	my @words = grep { length > 12 } map { s/^ | $//gr } split /\b[NSR]\b|512|256|"|\.\.\.|, /, $line->[0];

	is_deeply([ grep { index($library, $_) < 0 } @words ], [], "docs/operation.md: $line->[0]");
}

# The same goes for the messages of the README's table of mistakes, where they are the extension's and not the API's or PostgreSQL's.
my @mistakes = rows_of($page{'README.md'}, 'you see | because | do');
is(scalar @mistakes, 6, 'README.md: six usual mistakes');
for my $message (map { split /, /, $_->[0] } @mistakes)
{
	my @words = grep { length > 4 } map { s/^ | $//gr } split /"|\b(?:app|tencent_live|screenshot_task_request|created)\b|AuthFailure|UnauthorizedOperation|\.\.\.|but no pictures/, $message;

	is_deeply([ grep { index($library, $_) < 0 } @words ], [], "README.md: $message");
}

# ------------------------------------------------------------------------- Length of the README
cmp_ok(scalar(() = $page{'README.md'} =~ /\n/g), '<=', 150, 'README.md has at most 150 lines');
cmp_ok(scalar(() = $page{'README.md'} =~ /\S+/g), '<=', 1300, 'and at most 1,300 words');

# ------------------------------------------------------------------------------- Benchmark
# Three figures come before any table, and each target says whether it is met.
my ($before_tables) = $page{'docs/benchmark.md'} =~ /\A(.*?)^\|/ms;
is(scalar(() = $before_tables =~ /^- .*\*\*[\d.,]+.*: (?:met|missed)\)\.$/mg), 3, 'docs/benchmark.md begins with three figures');
my %verdicts = (met => 0, missed => 0);
$verdicts{ $_->[-1] =~ s/\*//gr }++ for map { rows_of($_, 'target | reached') } split /^## /m, $page{'docs/benchmark.md'};
my ($met, $targets) = $before_tables =~ /^(\d+) of (\d+) targets are met/m;
is_deeply(\%verdicts, { met => $met, missed => $targets - $met }, 'and says how many targets are met and missed');

# ----------------------------------------------------------------------------------- Links
# Files and headings that the pages link to are there.
sub anchors { return map { encode_utf8(lc =~ s/[^\w -]//gr =~ s/ /-/gr) } decode_utf8($_[0]) =~ /^#+ (.*)/mg }
for my $name (sort keys %page)
{
	my ($dir) = $name =~ m{^(.*/)?};
	my @broken;

	for my $link (grep { !/^https?:/ } $page{$name} =~ /\]\(([^)\s]+)\)/g)
	{
		my ($to, $anchor) = split /#/, $link, 2;
		my $target = $to eq '' ? $name : ($dir // '') . $to;
		1 while $target =~ s{[^/]+/\.\./}{};
		push @broken, $link if !-e "$top/$target" || defined $anchor && !grep { $_ eq $anchor } anchors(file($target));
	}
	is_deeply(\@broken, [], "$name: no link is broken");
}

# --------------------------------------------------------------------------------- Versions
my $version = $node->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'screenshot_task'});
my $meta    = decode_json(file('META.json'));
my $provided = $meta->{provides}{screenshot_task};
is((file('screenshot_task.control') =~ /^default_version = '(.*)'/m)[0], $version, 'the control file has the version that is installed');
is($meta->{version},     "$version.0", 'as does META.json');
is($provided->{version}, "$version.0", 'and what it provides');
is((file('CHANGELOG.md') =~ /^## (\S+)/m)[0], $version, 'and the first entry of CHANGELOG.md');
ok(-e "$top/$provided->{file}" && $provided->{file} eq "screenshot_task--$version.sql", 'its file is there');
ok(-e "$top/$provided->{docfile}", 'as is its documentation');
my $changes = file('CHANGELOG.md');
is_deeply([ grep { $changes !~ /`$_`/ } grep { !/_request_(?:insert|update|origin|news)$|_role$|_validator$/ } @functions ], [], 'CHANGELOG.md has all functions');
is_deeply([ grep { $changes !~ /`$_`/ } keys %settings ], [], 'and all settings');

done_testing();
