BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('bda7b8c39065');
CREATE TABLE "datasets" (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	CONSTRAINT fk_datasets_experiment_id_experiments FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "datasets" VALUES('44841e6506ba453fab50e18f996084c1',1,'flowers','d1','local','{"uri": "/data/flowers"}',NULL,'{"num_rows": 100}');
CREATE TABLE experiment_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE experiments (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	UNIQUE (name)
);
INSERT INTO "experiments" VALUES(0,'Default','/data/mlruns/0','active',1795761211560,1795761211560);
INSERT INTO "experiments" VALUES(1,'flowers','/data/artifacts','active',1795761211591,1795761211591);
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
INSERT INTO "input_tags" VALUES('a2df0bd1563a458b81ee723934c5a0be','mlflow.data.context','test');
INSERT INTO "input_tags" VALUES('df7deb62f95e4da4ab6a1ec35174ade2','mlflow.data.context','test');
INSERT INTO "input_tags" VALUES('07cfd72832a04efc9a1befaafbe72d0c','mlflow.data.context','test');
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO "inputs" VALUES('a2df0bd1563a458b81ee723934c5a0be','DATASET','44841e6506ba453fab50e18f996084c1','RUN','e8e95cf06f104a9eb3b46c5d36eca5c4',0);
INSERT INTO "inputs" VALUES('df7deb62f95e4da4ab6a1ec35174ade2','DATASET','44841e6506ba453fab50e18f996084c1','RUN','4a7648918afd4b39828bd99e1c481ee7',0);
INSERT INTO "inputs" VALUES('07cfd72832a04efc9a1befaafbe72d0c','DATASET','44841e6506ba453fab50e18f996084c1','RUN','82bd41e6e58a4e38b95d6a4f3e532efe',0);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.8,1700000000002,2,0,'e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "latest_metrics" VALUES('test_accuracy',0.91,1700000001000,2,0,'e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "latest_metrics" VALUES('odd',0.0,1,0,1,'e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.8,1700000000002,2,0,'4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "latest_metrics" VALUES('test_accuracy',0.93,1700000001000,2,0,'4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "latest_metrics" VALUES('odd',0.0,1,0,1,'4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.8,1700000000002,2,0,'82bd41e6e58a4e38b95d6a4f3e532efe');
INSERT INTO "latest_metrics" VALUES('test_accuracy',0.99,1700000001000,2,0,'82bd41e6e58a4e38b95d6a4f3e532efe');
INSERT INTO "latest_metrics" VALUES('odd',0.0,1,0,1,'82bd41e6e58a4e38b95d6a4f3e532efe');
CREATE TABLE logged_model_metrics (
	model_id VARCHAR(36) NOT NULL, 
	metric_name VARCHAR(500) NOT NULL, 
	metric_timestamp_ms BIGINT NOT NULL, 
	metric_step BIGINT NOT NULL, 
	metric_value FLOAT, 
	experiment_id INTEGER NOT NULL, 
	run_id VARCHAR(32) NOT NULL, 
	dataset_uuid VARCHAR(36), 
	dataset_name VARCHAR(500), 
	dataset_digest VARCHAR(36), 
	CONSTRAINT logged_model_metrics_pk PRIMARY KEY (model_id, metric_name, metric_timestamp_ms, metric_step, run_id), 
	CONSTRAINT fk_logged_model_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_metrics_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE, 
	CONSTRAINT fk_logged_model_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (run_uuid) ON DELETE CASCADE
);
CREATE TABLE logged_model_params (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	param_key VARCHAR(255) NOT NULL, 
	param_value TEXT NOT NULL, 
	CONSTRAINT logged_model_params_pk PRIMARY KEY (model_id, param_key), 
	CONSTRAINT fk_logged_model_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_params_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_model_tags (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	tag_key VARCHAR(255) NOT NULL, 
	tag_value TEXT NOT NULL, 
	CONSTRAINT logged_model_tags_pk PRIMARY KEY (model_id, tag_key), 
	CONSTRAINT fk_logged_model_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_tags_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
CREATE TABLE logged_models (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	artifact_location VARCHAR(1000) NOT NULL, 
	creation_timestamp_ms BIGINT NOT NULL, 
	last_updated_timestamp_ms BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	lifecycle_stage VARCHAR(32), 
	model_type VARCHAR(500), 
	source_run_id VARCHAR(32), 
	status_message VARCHAR(1000), 
	CONSTRAINT logged_models_pk PRIMARY KEY (model_id), 
	CONSTRAINT logged_models_lifecycle_stage_check CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT fk_logged_models_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "logged_models" VALUES('m-1ac054fcdd5f452d9773397f7200bdaa',1,'model','/data/artifacts/models/m-1ac054fcdd5f452d9773397f7200bdaa/artifacts',1795761211933,1795761211933,1,'active',NULL,'e8e95cf06f104a9eb3b46c5d36eca5c4',NULL);
INSERT INTO "logged_models" VALUES('m-12a3854632e44648923dc86fd2c58bd0',1,'model','/data/artifacts/models/m-12a3854632e44648923dc86fd2c58bd0/artifacts',1795761212345,1795761212345,1,'active',NULL,'4a7648918afd4b39828bd99e1c481ee7',NULL);
INSERT INTO "logged_models" VALUES('m-9d3c31cadfed45ebb0a6dba2a242b1f7',1,'model','/data/artifacts/models/m-9d3c31cadfed45ebb0a6dba2a242b1f7/artifacts',1795761212656,1795761212656,1,'active',NULL,'82bd41e6e58a4e38b95d6a4f3e532efe',NULL);
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('train_accuracy',0.5,1700000000001,'e8e95cf06f104a9eb3b46c5d36eca5c4',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.8,1700000000002,'e8e95cf06f104a9eb3b46c5d36eca5c4',2,0);
INSERT INTO "metrics" VALUES('test_accuracy',0.91,1700000001000,'e8e95cf06f104a9eb3b46c5d36eca5c4',2,0);
INSERT INTO "metrics" VALUES('odd',0.0,1,'e8e95cf06f104a9eb3b46c5d36eca5c4',0,1);
INSERT INTO "metrics" VALUES('train_accuracy',0.5,1700000000001,'4a7648918afd4b39828bd99e1c481ee7',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.8,1700000000002,'4a7648918afd4b39828bd99e1c481ee7',2,0);
INSERT INTO "metrics" VALUES('test_accuracy',0.93,1700000001000,'4a7648918afd4b39828bd99e1c481ee7',2,0);
INSERT INTO "metrics" VALUES('odd',0.0,1,'4a7648918afd4b39828bd99e1c481ee7',0,1);
INSERT INTO "metrics" VALUES('train_accuracy',0.5,1700000000001,'82bd41e6e58a4e38b95d6a4f3e532efe',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.8,1700000000002,'82bd41e6e58a4e38b95d6a4f3e532efe',2,0);
INSERT INTO "metrics" VALUES('test_accuracy',0.99,1700000001000,'82bd41e6e58a4e38b95d6a4f3e532efe',2,0);
INSERT INTO "metrics" VALUES('odd',0.0,1,'82bd41e6e58a4e38b95d6a4f3e532efe',0,1);
CREATE TABLE "model_version_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY ("key", name, version), 
	FOREIGN KEY(name, version) REFERENCES model_versions (name, version) ON UPDATE CASCADE
);
CREATE TABLE "model_versions" (
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	user_id VARCHAR(256), 
	current_stage VARCHAR(20), 
	source VARCHAR(500), 
	run_id VARCHAR(32), 
	status VARCHAR(20), 
	status_message VARCHAR(500), 
	run_link VARCHAR(500), storage_location VARCHAR(500), 
	CONSTRAINT model_version_pk PRIMARY KEY (name, version), 
	FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE CASCADE
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('num_layers','34','e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "params" VALUES('seed','0','e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "params" VALUES('num_layers','44','4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "params" VALUES('seed','0','4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "params" VALUES('num_layers','20','82bd41e6e58a4e38b95d6a4f3e532efe');
INSERT INTO "params" VALUES('seed','0','82bd41e6e58a4e38b95d6a4f3e532efe');
CREATE TABLE registered_model_aliases (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (name, alias), 
	CONSTRAINT registered_model_alias_name_fkey FOREIGN KEY(name) REFERENCES registered_models (name) ON DELETE cascade ON UPDATE cascade
);
CREATE TABLE registered_model_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY ("key", name), 
	FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE cascade
);
CREATE TABLE registered_models (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	CONSTRAINT registered_model_pk PRIMARY KEY (name), 
	UNIQUE (name)
);
INSERT INTO "registered_models" VALUES('m',1795761212973,1795761212973,NULL);
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('e8e95cf06f104a9eb3b46c5d36eca5c4','depth-34','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/e8e95cf06f104a9eb3b46c5d36eca5c4/artifacts',1,NULL);
INSERT INTO "runs" VALUES('4a7648918afd4b39828bd99e1c481ee7','depth-44','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/4a7648918afd4b39828bd99e1c481ee7/artifacts',1,NULL);
INSERT INTO "runs" VALUES('82bd41e6e58a4e38b95d6a4f3e532efe','depth-20','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','deleted','/data/artifacts/82bd41e6e58a4e38b95d6a4f3e532efe/artifacts',1,1795761212745);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.runName','depth-34','e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "tags" VALUES('mlflow.user','tester','e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "tags" VALUES('note','x','e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "tags" VALUES('more','y','e8e95cf06f104a9eb3b46c5d36eca5c4');
INSERT INTO "tags" VALUES('mlflow.runName','depth-44','4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "tags" VALUES('mlflow.user','tester','4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "tags" VALUES('note','x','4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "tags" VALUES('more','y','4a7648918afd4b39828bd99e1c481ee7');
INSERT INTO "tags" VALUES('mlflow.runName','depth-20','82bd41e6e58a4e38b95d6a4f3e532efe');
INSERT INTO "tags" VALUES('mlflow.user','tester','82bd41e6e58a4e38b95d6a4f3e532efe');
INSERT INTO "tags" VALUES('note','x','82bd41e6e58a4e38b95d6a4f3e532efe');
INSERT INTO "tags" VALUES('more','y','82bd41e6e58a4e38b95d6a4f3e532efe');
CREATE TABLE trace_info (
	request_id VARCHAR(50) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	timestamp_ms BIGINT NOT NULL, 
	execution_time_ms BIGINT, 
	status VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_info_pk PRIMARY KEY (request_id), 
	CONSTRAINT fk_trace_info_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE "trace_request_metadata" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_request_metadata_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_request_metadata_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE TABLE "trace_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	request_id VARCHAR(50) NOT NULL, 
	CONSTRAINT trace_tag_pk PRIMARY KEY ("key", request_id), 
	CONSTRAINT fk_trace_tags_request_id FOREIGN KEY(request_id) REFERENCES trace_info (request_id) ON DELETE CASCADE
);
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
CREATE INDEX index_trace_info_experiment_id_timestamp_ms ON trace_info (experiment_id, timestamp_ms);
CREATE INDEX index_trace_tags_request_id ON trace_tags (request_id);
CREATE INDEX index_trace_request_metadata_request_id ON trace_request_metadata (request_id);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_logged_model_metrics_model_id ON logged_model_metrics (model_id);
COMMIT;
