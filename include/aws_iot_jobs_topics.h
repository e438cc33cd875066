/* Topics of a thing's jobs. */
#ifndef IOTEDGE_AWS_IOT_JOBS_TOPICS_H
#define IOTEDGE_AWS_IOT_JOBS_TOPICS_H

#ifdef DISABLE_IOT_JOBS
#error "Jobs are disabled: DISABLE_IOT_JOBS is defined"
#endif

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In place of a job's id: the next execution that waits, and any. */
#define JOB_ID_NEXT "$next"
#define JOB_ID_WILDCARD "+"

typedef enum {
	JOB_UNRECOGNIZED_TOPIC = 0,
	JOB_GET_PENDING_TOPIC = 1,
	JOB_START_NEXT_TOPIC = 2,
	JOB_DESCRIBE_TOPIC = 3,
	JOB_UPDATE_TOPIC = 4,
	JOB_NOTIFY_TOPIC = 5,
	JOB_NOTIFY_NEXT_TOPIC = 6,
	JOB_WILDCARD_TOPIC = 7
} AwsIotJobExecutionTopicType;

typedef enum {
	JOB_UNRECOGNIZED_TOPIC_TYPE = 0,
	JOB_REQUEST_TYPE = 1,
	JOB_ACCEPTED_REPLY_TYPE = 2,
	JOB_REJECTED_REPLY_TYPE = 3,
	JOB_WILDCARD_REPLY_TYPE = 4
} AwsIotJobExecutionTopicReplyType;

/*
 * Writes a topic as snprintf does: how long it is, which may be more than fits. -1 when there is
 * none: no thing, an update or description without a job, a notification's reply.
 */
int aws_iot_jobs_get_api_topic(char *buffer, size_t bufferSize,
							   AwsIotJobExecutionTopicType topicType,
							   AwsIotJobExecutionTopicReplyType replyType, const char *thingName,
							   const char *jobId);

#ifdef __cplusplus
}
#endif

#endif
