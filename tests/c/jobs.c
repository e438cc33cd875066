/*
 * A program as an application of the SDK has it: asks for its jobs, and ends each that it is
 * given.
 *
 *   jobs -h HOST -p PORT -c CERTIFICATES -x COUNT
 *
 * Ends when COUNT updates of jobs were accepted.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "aws_iot_config.h"
#include "aws_iot_jobs_interface.h"
#include "aws_iot_json_utils.h"
#include "aws_iot_log.h"
#include "aws_iot_mqtt_client_interface.h"
#include "aws_iot_version.h"
#include "options.h"

#define MAX_TOKENS 120
#define TOPIC_SIZE 160

static jsmn_parser parser;
static jsmntok_t tokens[MAX_TOKENS];
static char update_topic[TOPIC_SIZE];
static int updated = 0;

static void on_pending(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					   IoT_Publish_Message_Params *params, void *data) {
	IOT_UNUSED(client);
	IOT_UNUSED(topic);
	IOT_UNUSED(topic_len);
	IOT_UNUSED(params);
	IOT_UNUSED(data);
	IOT_INFO("\nJOB_GET_PENDING_TOPIC callback");
	IOT_INFO("payload: %.*s", (int) params->payloadLen, (char *) params->payload);
}

static void on_update(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					  IoT_Publish_Message_Params *params, void *data) {
	IOT_UNUSED(client);
	IOT_UNUSED(topic);
	IOT_UNUSED(topic_len);
	IOT_UNUSED(params);
	IOT_UNUSED(data);
	IOT_INFO("\nJOB_UPDATE_TOPIC / %s callback", (const char *) data);
	IOT_INFO("payload: %.*s", (int) params->payloadLen, (char *) params->payload);
	updated += 1;
}

/* Ends a job: done, or failed when it has no document. */
static void finish(AWS_IoT_Client *client, const char *payload, jsmntok_t *execution) {
	AwsIotJobExecutionUpdateRequest request;
	char topic[TOPIC_SIZE];
	char message[200];
	char id[64];
	IoT_Error_t rc;
	jsmntok_t *token = findToken("jobId", payload, execution);

	if (token == NULL) {
		return;
	}
	rc = parseStringValue(id, sizeof(id), payload, token);
	if (rc != SUCCESS) {
		IOT_ERROR("parseStringValue returned error : %d ", rc);
		return;
	}
	IOT_INFO("jobId: %s", id);
	memset(&request, 0, sizeof(request));
	token = findToken("jobDocument", payload, execution);
	if (token != NULL) {
		IOT_INFO("jobDocument: %.*s", token->end - token->start, payload + token->start);
		request.status = JOB_EXECUTION_SUCCEEDED;
		request.statusDetails = "{\"exampleDetail\":\"a value appropriate for your successful job\"}";
	} else {
		request.status = JOB_EXECUTION_FAILED;
		request.statusDetails = "{\"failureDetail\":\"Unable to process job document\"}";
	}
	request.expectedVersion = 0;
	request.executionNumber = 0;
	request.includeJobExecutionState = false;
	request.includeJobDocument = false;
	request.clientToken = NULL;
	rc = aws_iot_jobs_send_update(client, QOS0, AWS_IOT_MY_THING_NAME, id, &request, topic,
								  sizeof(topic), message, sizeof(message));
	if (rc != SUCCESS) {
		IOT_ERROR("aws_iot_jobs_send_update returned error : %d ", rc);
	}
}

static void on_next(AWS_IoT_Client *client, char *topic, uint16_t topic_len,
					IoT_Publish_Message_Params *params, void *data) {
	const char *payload = (const char *) params->payload;
	jsmntok_t *execution;
	int found;
	IOT_UNUSED(topic);
	IOT_UNUSED(topic_len);
	IOT_UNUSED(data);

	IOT_INFO("\nJOB_NOTIFY_NEXT_TOPIC / JOB_DESCRIBE_TOPIC($next) callback");
	IOT_INFO("payload: %.*s", (int) params->payloadLen, payload);
	jsmn_init(&parser);
	found = jsmn_parse(&parser, payload, params->payloadLen, tokens, MAX_TOKENS);
	if (found < 0) {
		IOT_WARN("Failed to parse JSON: %d", found);
		return;
	}
	if (found < 1 || tokens[0].type != JSMN_OBJECT) {
		IOT_WARN("Top Level is not an object");
		return;
	}
	execution = findToken("execution", payload, tokens);
	if (execution != NULL) {
		finish(client, payload, execution);
	} else {
		IOT_INFO("execution property not found, nothing to do");
	}
}

int main(int argc, char **argv) {
	static char accepted[] = "accepted";
	AWS_IoT_Client client;
	IoT_Client_Init_Params init = iotClientInitParamsDefault;
	IoT_Client_Connect_Params connect = iotClientConnectParamsDefault;
	AwsIotDescribeJobExecutionRequest describe;
	char pending_topic[TOPIC_SIZE], notify_topic[TOPIC_SIZE], next_topic[TOPIC_SIZE];
	char topic[TOPIC_SIZE];
	IoT_Error_t rc;

	read_options(argc, argv);
	init.enableAutoReconnect = false;
	init.pHostURL = host;
	init.port = port;
	init.pRootCALocation = root_ca;
	init.pDeviceCertLocation = certificate;
	init.pDevicePrivateKeyLocation = private_key;
	init.mqttCommandTimeout_ms = 20000;
	init.tlsHandshakeTimeout_ms = 5000;
	init.isSSLHostnameVerify = true;
	rc = aws_iot_mqtt_init(&client, &init);
	if (rc != SUCCESS) {
		IOT_ERROR("aws_iot_mqtt_init returned error : %d ", rc);
		return rc;
	}
	connect.keepAliveIntervalInSec = 600;
	connect.pClientID = AWS_IOT_MQTT_CLIENT_ID;
	connect.clientIDLen = (uint16_t) strlen(AWS_IOT_MQTT_CLIENT_ID);
	rc = aws_iot_mqtt_connect(&client, &connect);
	if (rc != SUCCESS) {
		IOT_ERROR("Error(%d) connecting to %s:%d", rc, init.pHostURL, init.port);
		return rc;
	}
	rc = aws_iot_mqtt_autoreconnect_set_status(&client, true);
	if (rc == SUCCESS) {
		rc = aws_iot_jobs_subscribe_to_job_messages(
			&client, QOS0, AWS_IOT_MY_THING_NAME, NULL, JOB_GET_PENDING_TOPIC,
			JOB_WILDCARD_REPLY_TYPE, on_pending, NULL, pending_topic, sizeof(pending_topic));
	}
	if (rc == SUCCESS) {
		rc = aws_iot_jobs_subscribe_to_job_messages(
			&client, QOS0, AWS_IOT_MY_THING_NAME, NULL, JOB_NOTIFY_NEXT_TOPIC, JOB_REQUEST_TYPE,
			on_next, NULL, notify_topic, sizeof(notify_topic));
	}
	if (rc == SUCCESS) {
		rc = aws_iot_jobs_subscribe_to_job_messages(
			&client, QOS0, AWS_IOT_MY_THING_NAME, JOB_ID_NEXT, JOB_DESCRIBE_TOPIC,
			JOB_WILDCARD_REPLY_TYPE, on_next, NULL, next_topic, sizeof(next_topic));
	}
	if (rc == SUCCESS) {
		rc = aws_iot_jobs_subscribe_to_job_messages(
			&client, QOS0, AWS_IOT_MY_THING_NAME, JOB_ID_WILDCARD, JOB_UPDATE_TOPIC,
			JOB_ACCEPTED_REPLY_TYPE, on_update, accepted, update_topic, sizeof(update_topic));
	}
	if (rc == SUCCESS) {
		rc = aws_iot_jobs_send_query(&client, QOS0, AWS_IOT_MY_THING_NAME, NULL, NULL, topic,
									 sizeof(topic), NULL, 0, JOB_GET_PENDING_TOPIC);
	}
	describe.executionNumber = 0;
	describe.includeJobDocument = true;
	describe.clientToken = NULL;
	if (rc == SUCCESS) {
		rc = aws_iot_jobs_describe(&client, QOS0, AWS_IOT_MY_THING_NAME, JOB_ID_NEXT, &describe,
								   topic, sizeof(topic), NULL, 0);
	}
	if (rc != SUCCESS) {
		IOT_ERROR("Error asking for jobs: %d", rc);
		return rc;
	}

	while (rc == SUCCESS && updated < count) {
		rc = aws_iot_mqtt_yield(&client, 200);
	}
	if (rc == SUCCESS) {
		IOT_INFO("Jobs done\n");
		rc = aws_iot_jobs_unsubscribe_from_job_messages(&client, update_topic);
	}
	return rc;
}
