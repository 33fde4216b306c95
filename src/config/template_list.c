/*-------------------------------------------------------------------------
 *
 * template_list.c
 *	  Which templates an account has, as far as this process has asked
 *
 * A task with a template that does not exist takes no screenshots, and nobody is
 * told.  So each process keeps the list of templates of each account that it
 * sends for.  It is asked for when there is none, when it is old, and when a
 * request has a template that is not on it, which may have just been made: a
 * template is missing only on a list that was asked for after that was found.
 *
 * Nothing here sends anything.  What cannot be had is no reason to hold a request
 * back: its template is then not checked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "compat.h"
#include "config/template_list.h"
#include "util/monotonic.h"

/* How long a list is new, in seconds */
#define NEW_FOR				600

/* How long after a failure to ask again, in seconds: if it was refused; else */
#define RETRY_REFUSED		600
#define RETRY_FAILED		300

/* How long a template that was missing is taken to be so, in seconds */
#define MISSING_FOR			10

/* Not more of them are remembered than this. */
#define MAX_MISSING			1000

/* What was not used for so many seconds is forgotten. */
#define FORGET_AFTER		3600

/* A template that was asked for, and was not on the list */
typedef struct MissingTemplate
{
	int64		id;
	MonotonicUs met_at;			/* when it was last not known */
	MonotonicUs missed_at;		/* when a list came without it; 0: none has */
	bool		is_told;		/* does the log say so? */
} MissingTemplate;

/* The templates of one account */
typedef struct TemplateList
{
	dlist_node	node;			/* in "lists" */
	uint64		account;
	MonotonicUs used_at;
	MonotonicUs begun_at;		/* when it was last asked for; 0: never */
	bool		is_asked_for;	/* now? */
	bool		has_failed;		/* the last time? */
	bool		is_told;		/* has it been said that it has? */
	MonotonicUs due_at;			/* when to ask again */
	bool		is_had;			/* was it ever got? */
	int			n;
	int64	   *ids;			/* sorted */
	HTAB	   *missing;		/* of MissingTemplate */
} TemplateList;

static dlist_head lists = DLIST_STATIC_INIT(lists);

static TemplateList *find_list(uint64 account);
static TemplateList *take_list(uint64 account);
static void forget_unused(MonotonicUs now);
static void take_ids(TemplateList *list, const List *templates);
static void sort_out_missing(TemplateList *list);
static MissingTemplate *note_missing(TemplateList *list, int64 template_id);
static bool is_listed(const TemplateList *list, int64 template_id);
static int	compare_ids(const void *a, const void *b);

/*
 * Look what is known of a template of an account.  0 is no template, and never
 * checked.
 */
TemplateState
template_look(uint64 account, int64 template_id)
{
	TemplateList *list;
	MissingTemplate *missing;
	MonotonicUs now = monotonic_now();

	if (template_id == 0)
		return TEMPLATE_EXISTS;
	list = take_list(account);
	list->used_at = now;
	if (is_listed(list, template_id))
		return TEMPLATE_EXISTS;
	if (list->has_failed)
		return TEMPLATE_UNCHECKED;
	missing = note_missing(list, template_id);
	if (missing->missed_at + MISSING_FOR * US_PER_SECOND > now &&
		missing->missed_at != 0)
		return TEMPLATE_MISSING;
	missing->met_at = now;
	missing->missed_at = 0;
	list->due_at = now;
	return TEMPLATE_UNLISTED;
}

/*
 * Has an account's list been asked for, with or without success?
 */
bool
template_list_is_had(uint64 account)
{
	TemplateList *list = find_list(account);

	return list != NULL && (list->is_had || list->has_failed);
}

/*
 * Is it time to ask for an account's list?
 */
bool
template_list_is_due(uint64 account)
{
	TemplateList *list = find_list(account);

	return list == NULL ||
		(!list->is_asked_for && list->due_at <= monotonic_now());
}

/*
 * An account's list is being asked for.  template_list_end() must follow.
 */
void
template_list_begin(uint64 account)
{
	TemplateList *list = take_list(account);

	list->used_at = list->begun_at = monotonic_now();
	list->is_asked_for = true;
	/* In case that it never ends */
	list->due_at = list->begun_at + RETRY_FAILED * US_PER_SECOND;
}

/*
 * The answer to that is here, or none will come: that is NULL, or was not
 * LIVE_DONE.
 *
 * Returns whether to tell that templates are not checked, and why: the first time
 * that the list could not be had.
 */
bool
template_list_end(uint64 account, const LiveAnswer *answer)
{
	TemplateList *list = take_list(account);
	MonotonicUs now = monotonic_now();
	bool		tell;

	list->is_asked_for = false;
	list->has_failed = answer == NULL || answer->outcome != LIVE_DONE;
	if (!list->has_failed)
	{
		list->is_told = false;
		list->due_at = now + NEW_FOR * US_PER_SECOND;
		take_ids(list, answer->templates);
		sort_out_missing(list);
		return false;
	}
	list->due_at = now + US_PER_SECOND *
		(answer == NULL || answer->outcome == LIVE_NOT_SENT ||
		 answer->outcome == LIVE_UNKNOWN ? RETRY_FAILED : RETRY_REFUSED);
	tell = !list->is_told;
	list->is_told = true;
	return tell;
}

static void
take_ids(TemplateList *list, const List *templates)
{
	ListCell   *cell;

	if (list->ids != NULL)
		pfree(list->ids);
	list->n = 0;
	list->ids = MemoryContextAlloc(TopMemoryContext,
								   (list_length(templates) + 1) * sizeof(int64));
	foreach(cell, templates)
		list->ids[list->n++] = ((ScreenshotTemplate *) lfirst(cell))->template_id;
	qsort(list->ids, list->n, sizeof(int64), compare_ids);
	list->is_had = true;
}

/*
 * A list is here: those that it has are not missing, and the others are, if they
 * were met before it was asked for.
 */
static void
sort_out_missing(TemplateList *list)
{
	HASH_SEQ_STATUS scan;
	MissingTemplate *missing;

	if (list->missing == NULL)
		return;
	hash_seq_init(&scan, list->missing);
	while ((missing = hash_seq_search(&scan)) != NULL)
	{
		if (is_listed(list, missing->id))
			(void) hash_search(list->missing, &missing->id, HASH_REMOVE, NULL);
		else if (missing->met_at <= list->begun_at)
			missing->missed_at = monotonic_now();
		else
			list->due_at = 0;
	}
}

/*
 * A template is missing.  Returns true the first time, to be told.
 */
bool
template_tell_missing(uint64 account, int64 template_id)
{
	MissingTemplate *missing = note_missing(take_list(account), template_id);
	bool		tell = !missing->is_told;

	missing->is_told = true;
	return tell;
}

static MissingTemplate *
note_missing(TemplateList *list, int64 template_id)
{
	HASHCTL		info = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(MissingTemplate),
		.hcxt = TopMemoryContext
	};
	MissingTemplate *missing;
	bool		found;

	if (list->missing != NULL &&
		hash_get_num_entries(list->missing) >= MAX_MISSING)
	{
		hash_destroy(list->missing);
		list->missing = NULL;
	}
	if (list->missing == NULL)
		list->missing = hash_create("screenshot_task missing templates", 16, &info,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	missing = hash_search(list->missing, &template_id, HASH_ENTER, &found);
	if (!found)
	{
		missing->met_at = monotonic_now();
		missing->missed_at = 0;
		missing->is_told = false;
	}
	return missing;
}

static bool
is_listed(const TemplateList *list, int64 template_id)
{
	return list->n > 0 &&
		bsearch(&template_id, list->ids, list->n, sizeof(int64),
				compare_ids) != NULL;
}

static int
compare_ids(const void *a, const void *b)
{
	int64		id_a = *(const int64 *) a;
	int64		id_b = *(const int64 *) b;

	return (id_a > id_b) - (id_a < id_b);
}

/*
 * The list of an account, or NULL.
 */
static TemplateList *
find_list(uint64 account)
{
	dlist_iter	iter;

	dlist_foreach(iter, &lists)
	{
		TemplateList *list = dlist_container(TemplateList, node, iter.cur);

		if (list->account == account)
			return list;
	}
	return NULL;
}

/*
 * The same, made if there is none.
 */
static TemplateList *
take_list(uint64 account)
{
	TemplateList *list = find_list(account);

	if (list != NULL)
		return list;
	forget_unused(monotonic_now());
	list = MemoryContextAllocZero(TopMemoryContext, sizeof(TemplateList));
	list->account = account;
	list->used_at = monotonic_now();
	dlist_push_head(&lists, &list->node);
	return list;
}

/*
 * Keys are replaced, and a process may run for months.
 */
static void
forget_unused(MonotonicUs now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &lists)
	{
		TemplateList *list = dlist_container(TemplateList, node, iter.cur);

		if (list->is_asked_for ||
			list->used_at + FORGET_AFTER * US_PER_SECOND > now)
			continue;
		if (list->ids != NULL)
			pfree(list->ids);
		if (list->missing != NULL)
			hash_destroy(list->missing);
		dlist_delete(&list->node);
		pfree(list);
	}
}
