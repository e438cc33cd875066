/*
 * Tokens of JSON, in place: nothing is copied and nothing is allocated.
 */
#ifndef IOTEDGE_JSMN_H
#define IOTEDGE_JSMN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a token is. A primitive is a number, true, false or null. */
typedef enum {
	JSMN_UNDEFINED = 0,
	JSMN_OBJECT = 1,
	JSMN_ARRAY = 2,
	JSMN_STRING = 3,
	JSMN_PRIMITIVE = 4
} jsmntype_t;

enum jsmnerr {
	/* There are more tokens than fit: call again with more. */
	JSMN_ERROR_NOMEM = -1,
	/* A byte that can't stand where it stands. */
	JSMN_ERROR_INVAL = -2,
	/* The text ends too early. */
	JSMN_ERROR_PART = -3
};

/*
 * A value: from the byte at start to the one before end, a string without its quotes. Tokens come
 * in the order in which the values begin; size is the number of an object's keys, of an array's
 * values, and 1 for a key.
 */
typedef struct {
	jsmntype_t type;
	int start;
	int end;
	int size;
} jsmntok_t;

/* Where the parser stands. */
typedef struct {
	unsigned int pos;
	unsigned int toknext;
	int toksuper;
} jsmn_parser;

void jsmn_init(jsmn_parser *parser);

/*
 * Splits a text of len bytes, or up to a NUL byte, into tokens. How many there are, or a negative
 * enum jsmnerr. Without tokens they are only counted.
 */
int jsmn_parse(jsmn_parser *parser, const char *js, size_t len, jsmntok_t *tokens,
			   unsigned int num_tokens);

#ifdef __cplusplus
}
#endif

#endif
