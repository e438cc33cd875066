/*
 * What needs no network: tokens and values of JSON, documents of shadows, topics and requests of
 * jobs, and what calls say to arguments that are missing. Prints what is not as promised.
 */
#include <float.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws_iot_config.h"
#include "aws_iot_jobs_interface.h"
#include "aws_iot_jobs_json.h"
#include "aws_iot_json_utils.h"
#include "aws_iot_shadow_interface.h"

static int faults = 0;

#define MUST(what)                                          \
	do {                                                    \
		if (!(what)) {                                      \
			printf("line %d: not so: %s\n", __LINE__, #what); \
			faults += 1;                                    \
		}                                                   \
	} while (0)

#define MUST_BE(text, expected)                                                          \
	do {                                                                                 \
		if (strcmp((text), (expected)) != 0) {                                           \
			printf("line %d: %s\n      not: %s\n", __LINE__, (text), (expected));        \
			faults += 1;                                                                 \
		}                                                                                \
	} while (0)

static jsmntok_t tokens[64];

static int parse(const char *json) {
	jsmn_parser parser;
	jsmn_init(&parser);
	return jsmn_parse(&parser, json, strlen(json), tokens, 64);
}

static void tokens_and_values(void) {
	const char *json = "{\"n\":-12, \"big\":300, \"f\":1.5e1, \"b\":true, \"s\":\"t\\\"x\", "
					   "\"o\":{\"n\":7,\"deep\":[1,2]}, \"last\":4294967295}";
	jsmn_parser parser;
	int32_t i32 = 1;
	int8_t i8 = 1;
	uint8_t u8 = 1;
	uint32_t u32 = 1;
	float f = 0;
	double d = 0;
	bool b = false;
	char text[8];
	jsmntok_t *found;

	MUST(parse(json) == 21);
	MUST(tokens[0].type == JSMN_OBJECT && tokens[0].size == 7);
	MUST(jsoneq(json, &tokens[1], "n") == 0);
	MUST(jsoneq(json, &tokens[1], "nn") == -1);
	MUST(jsoneq(json, &tokens[2], "-12") == -1);

	found = findToken("n", json, tokens);
	MUST(found == &tokens[2]);
	MUST(parseInteger32Value(&i32, json, found) == SUCCESS && i32 == -12);
	MUST(parseUnsignedInteger32Value(&u32, json, found) == JSON_PARSE_ERROR && u32 == 1);
	found = findToken("big", json, tokens);
	MUST(parseInteger8Value(&i8, json, found) == JSON_PARSE_ERROR && i8 == 1);
	MUST(parseUnsignedInteger8Value(&u8, json, found) == JSON_PARSE_ERROR);
	found = findToken("f", json, tokens);
	MUST(parseFloatValue(&f, json, found) == SUCCESS && f > 14.9f && f < 15.1f);
	MUST(parseDoubleValue(&d, json, found) == SUCCESS && d > 14.9 && d < 15.1);
	found = findToken("b", json, tokens);
	MUST(parseBooleanValue(&b, json, found) == SUCCESS && b);
	MUST(parseInteger32Value(&i32, json, found) == JSON_PARSE_ERROR);
	found = findToken("s", json, tokens);
	MUST(parseStringValue(text, sizeof(text), json, found) == SUCCESS);
	MUST_BE(text, "t\\\"x");
	MUST(parseStringValue(text, 4, json, found) == SHADOW_JSON_ERROR);
	MUST(parseStringValue(text, 5, json, found) == SUCCESS);
	/* Three arguments, as programs of version 2 call it. */
	MUST(parseStringValue(text, json, found) == SUCCESS);
	MUST(parseStringValue(text, sizeof(text), json, &tokens[2]) == JSON_PARSE_ERROR);
	MUST(parseBooleanValue(&b, json, found) == JSON_PARSE_ERROR);
	found = findToken("last", json, tokens);
	MUST(parseUnsignedInteger32Value(&u32, json, found) == SUCCESS && u32 == 4294967295u);
	MUST(findToken("deep", json, tokens) == NULL);
	found = findToken("o", json, tokens);
	MUST(found != NULL && findToken("deep", json, found) != NULL);
	MUST(findToken("n", json, &tokens[2]) == NULL);
	MUST(parseInteger32Value(NULL, json, found) == NULL_VALUE_ERROR);
	MUST(parseInteger32Value(&i32, NULL, found) == NULL_VALUE_ERROR);

	jsmn_init(&parser);
	MUST(jsmn_parse(&parser, json, strlen(json), NULL, 0) == 21);
	jsmn_init(&parser);
	MUST(jsmn_parse(&parser, json, strlen(json), tokens, 5) == JSMN_ERROR_NOMEM);
	MUST(jsmn_parse(&parser, json, strlen(json), tokens, 64) == 21);
	MUST(parse("{\"a\":") == JSMN_ERROR_PART);
	MUST(parse("{\"a\":1]") == JSMN_ERROR_INVAL);
}

static jsonStruct_t member(const char *key, JsonPrimitiveType type, void *data, size_t length) {
	jsonStruct_t made;
	made.pKey = key;
	made.pData = data;
	made.dataLength = length;
	made.type = type;
	made.cb = NULL;
	return made;
}

static void documents(void) {
	char document[400];
	char small[24];
	int32_t i32 = -70000;
	uint8_t u8 = 200;
	double d = 0.1;
	float f = 25.5f;
	bool b = true;
	char text[] = "warm";
	char object[] = "{\"a\":[1]}";
	jsonStruct_t a = member("i", SHADOW_JSON_INT32, &i32, sizeof(i32));
	jsonStruct_t c = member("u", SHADOW_JSON_UINT8, &u8, sizeof(u8));
	jsonStruct_t e = member("d", SHADOW_JSON_DOUBLE, &d, sizeof(d));
	jsonStruct_t g = member("f", SHADOW_JSON_FLOAT, &f, sizeof(f));
	jsonStruct_t h = member("b", SHADOW_JSON_BOOL, &b, sizeof(b));
	jsonStruct_t k = member("s", SHADOW_JSON_STRING, text, sizeof(text));
	jsonStruct_t o = member("o", SHADOW_JSON_OBJECT, object, sizeof(object));
	jsonStruct_t bad = member(NULL, SHADOW_JSON_INT32, &i32, sizeof(i32));

	MUST(aws_iot_shadow_init_json_document(document, sizeof(document)) == SUCCESS);
	MUST(aws_iot_shadow_add_reported(document, sizeof(document), 7, &a, &c, &e, &g, &h, &k, &o)
		 == SUCCESS);
	MUST(aws_iot_shadow_add_desired(document, sizeof(document), 1, &h) == SUCCESS);
	MUST(aws_iot_finalize_json_document(document, sizeof(document)) == SUCCESS);
	MUST_BE(document, "{\"state\":{\"reported\":{\"i\":-70000,\"u\":200,\"d\":0.100000,"
					  "\"f\":25.500000,\"b\":true,\"s\":\"warm\",\"o\":{\"a\":[1]}},"
					  "\"desired\":{\"b\":true}}, \"clientToken\":\"-0\"}");
	MUST(aws_iot_fill_with_client_token(document, sizeof(document)) == SUCCESS);
	MUST_BE(document, "-1");

	MUST(aws_iot_shadow_init_json_document(NULL, 10) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_init_json_document(small, 1) == SHADOW_JSON_ERROR);
	MUST(aws_iot_shadow_init_json_document(small, 8) == SHADOW_JSON_BUFFER_TRUNCATED);
	MUST_BE(small, "{\"state");
	MUST(aws_iot_shadow_init_json_document(small, sizeof(small)) == SUCCESS);
	MUST(aws_iot_shadow_add_reported(small, sizeof(small), 1, &a)
		 == SHADOW_JSON_BUFFER_TRUNCATED);
	MUST(strlen(small) == sizeof(small) - 1);
	MUST(aws_iot_shadow_add_reported(small, sizeof(small), 1, &a) == SHADOW_JSON_ERROR);
	MUST(aws_iot_shadow_init_json_document(document, sizeof(document)) == SUCCESS);
	MUST(aws_iot_shadow_add_reported(document, sizeof(document), 1, &bad) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_add_reported(document, sizeof(document), 1, (jsonStruct_t *) NULL)
		 == NULL_VALUE_ERROR);
	MUST(aws_iot_finalize_json_document(NULL, 10) == NULL_VALUE_ERROR);
	d = DBL_MAX * 10;
	MUST(aws_iot_shadow_add_reported(document, sizeof(document), 1, &e) == SHADOW_JSON_ERROR);
}

static void topics_of_jobs(void) {
	char topic[100];
	char tight[20];
	static const struct {
		AwsIotJobExecutionTopicType type;
		AwsIotJobExecutionTopicReplyType reply;
		const char *job;
		const char *topic;
	} all[] = {
		{JOB_GET_PENDING_TOPIC, JOB_REQUEST_TYPE, NULL, "get"},
		{JOB_GET_PENDING_TOPIC, JOB_WILDCARD_REPLY_TYPE, NULL, "get/+"},
		{JOB_START_NEXT_TOPIC, JOB_ACCEPTED_REPLY_TYPE, NULL, "start-next/accepted"},
		{JOB_DESCRIBE_TOPIC, JOB_REJECTED_REPLY_TYPE, "$next", "$next/get/rejected"},
		{JOB_UPDATE_TOPIC, JOB_REQUEST_TYPE, "j1", "j1/update"},
		{JOB_NOTIFY_TOPIC, JOB_REQUEST_TYPE, NULL, "notify"},
		{JOB_NOTIFY_NEXT_TOPIC, JOB_REQUEST_TYPE, NULL, "notify-next"},
		{JOB_WILDCARD_TOPIC, JOB_REQUEST_TYPE, NULL, "#"},
		{JOB_WILDCARD_TOPIC, JOB_ACCEPTED_REPLY_TYPE, "j1", "j1/+/accepted"},
		{JOB_UPDATE_TOPIC, JOB_REQUEST_TYPE, NULL, NULL},
		{JOB_DESCRIBE_TOPIC, JOB_REQUEST_TYPE, NULL, NULL},
		{JOB_NOTIFY_TOPIC, JOB_ACCEPTED_REPLY_TYPE, NULL, NULL},
		{JOB_UNRECOGNIZED_TOPIC, JOB_REQUEST_TYPE, NULL, NULL},
	};
	size_t index;
	for (index = 0; index < sizeof(all) / sizeof(all[0]); ++index) {
		char expected[100] = "$aws/things/T/jobs/";
		int length = aws_iot_jobs_get_api_topic(topic, sizeof(topic), all[index].type,
												all[index].reply, "T", all[index].job);
		if (all[index].topic == NULL) {
			MUST(length == -1);
			continue;
		}
		strcat(expected, all[index].topic);
		MUST(length == (int) strlen(expected));
		MUST_BE(topic, expected);
	}
	MUST(aws_iot_jobs_get_api_topic(topic, sizeof(topic), JOB_GET_PENDING_TOPIC, JOB_REQUEST_TYPE,
									NULL, NULL) == -1);
	MUST(aws_iot_jobs_get_api_topic(tight, sizeof(tight), JOB_GET_PENDING_TOPIC, JOB_REQUEST_TYPE,
									"T", NULL) == 22);
	MUST_BE(tight, "$aws/things/T/jobs/");
}

static void requests_of_jobs(void) {
	AwsIotJobExecutionUpdateRequest update;
	AwsIotDescribeJobExecutionRequest describe;
	AwsIotStartNextPendingJobExecutionRequest start;
	char text[300];

	memset(&update, 0, sizeof(update));
	memset(&describe, 0, sizeof(describe));
	memset(&start, 0, sizeof(start));
	MUST(aws_iot_jobs_json_serialize_update_job_execution_request(text, sizeof(text), &update)
		 == 2);
	MUST_BE(text, "{}");
	update.status = JOB_EXECUTION_IN_PROGRESS;
	update.statusDetails = "{\"a\":1}";
	update.executionNumber = 3;
	update.expectedVersion = 2;
	update.includeJobExecutionState = true;
	update.includeJobDocument = true;
	update.clientToken = "tok";
	MUST(aws_iot_jobs_json_serialize_update_job_execution_request(text, sizeof(text), &update)
		 == (int) strlen(text));
	MUST_BE(text, "{\"status\":\"IN_PROGRESS\",\"statusDetails\":{\"a\":1},\"executionNumber\":3,"
				  "\"expectedVersion\":2,\"includeJobExecutionState\":true,"
				  "\"includeJobDocument\":true,\"clientToken\":\"tok\"}");
	MUST(aws_iot_jobs_json_serialize_update_job_execution_request(text, sizeof(text), NULL) == -1);
	MUST(aws_iot_jobs_json_serialize_client_token_only_request(text, sizeof(text), "x") == 19);
	MUST_BE(text, "{\"clientToken\":\"x\"}");
	MUST(aws_iot_jobs_json_serialize_describe_job_execution_request(NULL, 0, &describe) == 0);
	MUST(aws_iot_jobs_json_serialize_describe_job_execution_request(text, sizeof(text), &describe)
		 == 2);
	MUST_BE(text, "{}");
	describe.includeJobDocument = true;
	describe.executionNumber = 1;
	describe.clientToken = "x";
	MUST(aws_iot_jobs_json_serialize_describe_job_execution_request(text, sizeof(text), &describe)
		 > 0);
	MUST_BE(text, "{\"clientToken\":\"x\",\"executionNumber\":1,\"includeJobDocument\":true}");
	MUST(aws_iot_jobs_json_serialize_start_next_job_execution_request(text, sizeof(text), &start)
		 == 2);
	start.statusDetails = "{}";
	start.clientToken = "x";
	MUST(aws_iot_jobs_json_serialize_start_next_job_execution_request(text, 5, &start) == 38);
	MUST_BE(text, "{\"st");

	MUST(aws_iot_jobs_map_string_to_job_status("QUEUED") == JOB_EXECUTION_QUEUED);
	MUST(aws_iot_jobs_map_string_to_job_status(JOB_EXECUTION_REJECTED_STR)
		 == JOB_EXECUTION_REJECTED);
	MUST(aws_iot_jobs_map_string_to_job_status("") == JOB_EXECUTION_STATUS_NOT_SET);
	MUST(aws_iot_jobs_map_string_to_job_status(NULL) == JOB_EXECUTION_STATUS_NOT_SET);
	MUST(aws_iot_jobs_map_string_to_job_status("queued") == JOB_EXECUTION_UNKNOWN_STATUS);
	MUST_BE(aws_iot_jobs_map_status_to_string(JOB_EXECUTION_SUCCEEDED), JOB_EXECUTION_SUCCESS_STR);
	MUST(aws_iot_jobs_map_status_to_string(JOB_EXECUTION_STATUS_NOT_SET) == NULL);
	MUST(aws_iot_jobs_map_status_to_string(JOB_EXECUTION_UNKNOWN_STATUS) == NULL);
}

static void on_message(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					   IoT_Publish_Message_Params *params, void *data) {
	(void) client;
	(void) topic;
	(void) topic_len;
	(void) params;
	(void) data;
}

static void without_a_connection(void) {
	AWS_IoT_Client client;
	ShadowInitParameters_t init = ShadowInitParametersDefault;
	ShadowConnectParameters_t connect = ShadowConnectParametersDefault;
	jsonStruct_t delta = member("x", SHADOW_JSON_INT32, &init, 4);
	AwsIotJobExecutionUpdateRequest update;
	char topic[100], tight[10], message[100];
	char document[] = "{}";
	memset(&update, 0, sizeof(update));

	MUST_BE(init.pHost, AWS_IOT_MQTT_HOST);
	MUST(init.port == AWS_IOT_MQTT_PORT);
	MUST_BE(connect.pMyThingName, AWS_IOT_MY_THING_NAME);
	MUST(aws_iot_shadow_init(NULL, &init) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_init(&client, NULL) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_init(&client, &init) == NULL_VALUE_ERROR); /* no files */
	init.pRootCA = init.pClientCRT = init.pClientKey = "absent.pem";
	MUST(aws_iot_shadow_init(&client, &init) == SUCCESS);
	MUST(aws_iot_shadow_connect(&client, NULL) == NULL_VALUE_ERROR);
	connect.pMqttClientId = NULL;
	MUST(aws_iot_shadow_connect(&client, &connect) == NULL_VALUE_ERROR);
	connect.pMqttClientId = "c";
	MUST(aws_iot_shadow_connect(&client, &connect) == NETWORK_X509_ROOT_CRT_PARSE_ERROR);
	MUST(aws_iot_shadow_update(&client, "T", document, NULL, NULL, 4, true)
		 == MQTT_CONNECTION_ERROR);
	MUST(aws_iot_shadow_get(&client, "T", NULL, NULL, 4, true) == MQTT_CONNECTION_ERROR);
	MUST(aws_iot_shadow_delete(NULL, "T", NULL, NULL, 4, true) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_get(&client, NULL, NULL, NULL, 4, true) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_register_delta(&client, NULL) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_register_delta(&client, &delta) == MQTT_CONNECTION_ERROR);
	MUST(aws_iot_shadow_yield(NULL, 10) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_yield(&client, 10) == NETWORK_DISCONNECTED_ERROR);
	MUST(aws_iot_shadow_disconnect(&client) == NETWORK_DISCONNECTED_ERROR);
	aws_iot_shadow_reset_last_received_version();
	MUST(aws_iot_shadow_get_last_received_version() == 0);

	MUST(aws_iot_jobs_subscribe_to_all_job_messages(&client, QOS0, "T", on_message, NULL, tight,
													sizeof(tight)) == LIMIT_EXCEEDED_ERROR);
	MUST(aws_iot_jobs_subscribe_to_all_job_messages(&client, QOS0, NULL, on_message, NULL, topic,
													sizeof(topic)) == NULL_VALUE_ERROR);
	MUST(aws_iot_jobs_subscribe_to_all_job_messages(&client, QOS0, "T", on_message, NULL, topic,
													sizeof(topic)) == NETWORK_DISCONNECTED_ERROR);
	MUST_BE(topic, "$aws/things/T/jobs/#");
	MUST(aws_iot_jobs_send_update(&client, QOS0, "T", NULL, &update, topic, sizeof(topic), message,
								  sizeof(message)) == FAILURE);
	MUST(aws_iot_jobs_send_update(&client, QOS0, "T", "j", NULL, topic, sizeof(topic), message,
								  sizeof(message)) == NULL_VALUE_ERROR);
	MUST(aws_iot_jobs_send_update(&client, QOS0, "T", "j", &update, topic, sizeof(topic), message,
								  2) == LIMIT_EXCEEDED_ERROR);
	MUST(aws_iot_jobs_send_update(&client, QOS0, "T", "j", &update, topic, sizeof(topic), message,
								  sizeof(message)) == NETWORK_DISCONNECTED_ERROR);
	MUST_BE(message, "{}");
	MUST(aws_iot_jobs_unsubscribe_from_job_messages(&client, NULL) == NULL_VALUE_ERROR);
	MUST(aws_iot_shadow_free(&client) == SUCCESS);
	MUST(aws_iot_shadow_free(NULL) == NULL_VALUE_ERROR);
}

int main(void) {
	/* No client has been initialised yet: the tokens begin with nothing. */
	documents();
	tokens_and_values();
	topics_of_jobs();
	requests_of_jobs();
	without_a_connection();
	printf("%d faults\n", faults);
	return faults == 0 ? 0 : 1;
}
