/*-------------------------------------------------------------------------
 *
 * answer_json.h
 *	  Reading the JSON of answers
 *
 *-------------------------------------------------------------------------
 */
#ifndef SCREENSHOT_TASK_ANSWER_JSON_H
#define SCREENSHOT_TASK_ANSWER_JSON_H

#include "utils/jsonb.h"

extern Jsonb *parse_json(const char *text, size_t len);
extern char *replace_non_ascii(const char *text, size_t len);
extern bool has_key(JsonbContainer *object, const char *key);
extern JsonbContainer *get_object(JsonbContainer *object, const char *key);
extern const char *get_text(JsonbContainer *object, const char *key,
							size_t max_len, const char *also_allowed);
extern const char *get_any_text(JsonbContainer *object, const char *key);
extern bool get_number(JsonbContainer *object, const char *key, int64 most,
					   int64 *number);
extern const char *get_message(JsonbContainer *object, const char *key);

#endif							/* SCREENSHOT_TASK_ANSWER_JSON_H */
