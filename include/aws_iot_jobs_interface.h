/*
 * A thing's jobs. Topics and messages are written into buffers of the application. The result is
 * that of the subscription or publication; NULL_VALUE_ERROR when something needed is NULL, FAILURE
 * when there is no such topic, LIMIT_EXCEEDED_ERROR when a buffer is too small.
 */
#ifndef IOTEDGE_AWS_IOT_JOBS_INTERFACE_H
#define IOTEDGE_AWS_IOT_JOBS_INTERFACE_H

#include "aws_iot_jobs_topics.h"
#include "aws_iot_jobs_types.h"
#include "aws_iot_mqtt_client_interface.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Subscribes to the topic of a call or of its replies; topicBuffer names the subscription. */
IoT_Error_t aws_iot_jobs_subscribe_to_job_messages(
	AWS_IoT_Client *pClient, QoS qos, const char *thingName, const char *jobId,
	AwsIotJobExecutionTopicType topicType, AwsIotJobExecutionTopicReplyType replyType,
	pApplicationHandler_t pApplicationHandler, void *pApplicationHandlerData, char *topicBuffer,
	uint16_t topicBufferSize);

/* Subscribes to everything about the thing's jobs. */
IoT_Error_t aws_iot_jobs_subscribe_to_all_job_messages(AWS_IoT_Client *pClient, QoS qos,
													   const char *thingName,
													   pApplicationHandler_t pApplicationHandler,
													   void *pApplicationHandlerData,
													   char *topicBuffer,
													   uint16_t topicBufferSize);

/* Ends the subscription that topicBuffer names. */
IoT_Error_t aws_iot_jobs_unsubscribe_from_job_messages(AWS_IoT_Client *pClient,
													   char *topicBuffer);

/* A call with no more than a client token; without one its message is empty. */
IoT_Error_t aws_iot_jobs_send_query(AWS_IoT_Client *pClient, QoS qos, const char *thingName,
									const char *jobId, const char *clientToken, char *topicBuffer,
									uint16_t topicBufferSize, char *messageBuffer,
									size_t messageBufferSize,
									AwsIotJobExecutionTopicType topicType);

/* Starts the next execution that waits. */
IoT_Error_t aws_iot_jobs_start_next(
	AWS_IoT_Client *pClient, QoS qos, const char *thingName,
	const AwsIotStartNextPendingJobExecutionRequest *startNextRequest, char *topicBuffer,
	uint16_t topicBufferSize, char *messageBuffer, size_t messageBufferSize);

/* Asks for an execution. Without messageBuffer the message is empty. */
IoT_Error_t aws_iot_jobs_describe(AWS_IoT_Client *pClient, QoS qos, const char *thingName,
								  const char *jobId,
								  const AwsIotDescribeJobExecutionRequest *describeRequest,
								  char *topicBuffer, uint16_t topicBufferSize,
								  char *messageBuffer, size_t messageBufferSize);

/* Reports on an execution. */
IoT_Error_t aws_iot_jobs_send_update(AWS_IoT_Client *pClient, QoS qos, const char *thingName,
									 const char *jobId,
									 const AwsIotJobExecutionUpdateRequest *updateRequest,
									 char *topicBuffer, uint16_t topicBufferSize,
									 char *messageBuffer, size_t messageBufferSize);

#ifdef __cplusplus
}
#endif

#endif
