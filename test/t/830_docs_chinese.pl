# The Chinese pages say the same as the English ones: they have the same statements and commands, headings, tables and links.

use strict;
use warnings;
use utf8;

use Encode qw(decode_utf8);
use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

sub page { return decode_utf8(slurp_file("$top/$_[0]")) }

# Code blocks, fenced or indented: without comments, which are translated.
sub code_of
{
	my ($text) = @_;
	my @blocks = $text =~ /(^```\w*\n(?s:.*?)^```$|(?:^    \S.*\n)+)/mg;

	return [ map { s/^--.*\n//mgr =~ s/ +#.*//gr } @blocks ];
}

# Levels of headings, in order; code is not looked at.
sub prose_of { return $_[0] =~ s/^```\w*\n.*?^```$//msgr }

sub levels_of { return [ map { length } prose_of($_[0]) =~ /^(#+) /mg ] }

# Of each table, how many rows it has, and what its cells have between backquotes.
sub tables_of
{
	my @tables = prose_of($_[0]) =~ /((?:^ *\|.*\n)+)/mg;

	return [ map { [ map { join ' ', /`([^`]+)`/g } split /\n/ ] } @tables ];
}

# What is linked to, in whichever language.
sub links_of
{
	return [ sort map { s/#.*//r =~ s/\.zh-CN//r } grep { !m{^(?:https?:.*|#.*|(?:\.\./)?README[\w.-]*)$} } prose_of($_[0]) =~ /\]\(([^)\s]+)\)/g ];
}

for my $pair ([ 'README.md', 'README.zh-CN.md' ], [ 'docs/guide.md', 'docs/guide.zh-CN.md' ])
{
	my ($english, $chinese) = map { page($_) } @$pair;

	cmp_ok(scalar @{ code_of($english) }, '>', 5, "$pair->[0] has statements");
	is_deeply(code_of($chinese), code_of($english), "$pair->[1] has the same");
	is_deeply(levels_of($chinese), levels_of($english), 'and the same headings');
	is_deeply(tables_of($chinese), tables_of($english), 'and the same tables');
	is_deeply(links_of($chinese), links_of($english), 'and the same links');
	is(scalar(() = prose_of($chinese) =~ /^- /mg), scalar(() = prose_of($english) =~ /^- /mg), 'and as many points');
	is(scalar(() = $chinese =~ /-- 以超级用户身份/g), scalar(() = $english =~ /-- as a superuser/g), 'and says as often whose statements they are');
	unlike(prose_of($chinese), qr/\p{Han}[,.;:!?]/, 'Chinese punctuation follows Chinese text');
}
like(page('README.md'), qr/\(README\.zh-CN\.md\)/, 'the English README links to the Chinese one');
like(page('README.zh-CN.md'), qr/\(README\.md\)/, 'and back');

done_testing();
