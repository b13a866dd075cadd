BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('97727af70f4d');
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
INSERT INTO "experiments" VALUES(0,'Default','./mlruns/0','active',1795760971697,1795760971697);
INSERT INTO "experiments" VALUES(1,'flowers','/data/artifacts','active',1795760971708,1795760971708);
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
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.8,1700000000002,2,0,'f28be933710642cca4a4031681ca5290');
INSERT INTO "latest_metrics" VALUES('test_accuracy',0.91,1700000001000,2,0,'f28be933710642cca4a4031681ca5290');
INSERT INTO "latest_metrics" VALUES('odd',0.0,1,0,1,'f28be933710642cca4a4031681ca5290');
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.8,1700000000002,2,0,'2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "latest_metrics" VALUES('test_accuracy',0.93,1700000001000,2,0,'2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "latest_metrics" VALUES('odd',0.0,1,0,1,'2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "latest_metrics" VALUES('train_accuracy',0.8,1700000000002,2,0,'fc9237e82b0f4084a757ee7556f0fc99');
INSERT INTO "latest_metrics" VALUES('test_accuracy',0.99,1700000001000,2,0,'fc9237e82b0f4084a757ee7556f0fc99');
INSERT INTO "latest_metrics" VALUES('odd',0.0,1,0,1,'fc9237e82b0f4084a757ee7556f0fc99');
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
INSERT INTO "metrics" VALUES('train_accuracy',0.5,1700000000001,'f28be933710642cca4a4031681ca5290',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.8,1700000000002,'f28be933710642cca4a4031681ca5290',2,0);
INSERT INTO "metrics" VALUES('test_accuracy',0.91,1700000001000,'f28be933710642cca4a4031681ca5290',2,0);
INSERT INTO "metrics" VALUES('odd',0.0,1,'f28be933710642cca4a4031681ca5290',0,1);
INSERT INTO "metrics" VALUES('train_accuracy',0.5,1700000000001,'2b07df74ddbf4c8b922027d661cb4ea8',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.8,1700000000002,'2b07df74ddbf4c8b922027d661cb4ea8',2,0);
INSERT INTO "metrics" VALUES('test_accuracy',0.93,1700000001000,'2b07df74ddbf4c8b922027d661cb4ea8',2,0);
INSERT INTO "metrics" VALUES('odd',0.0,1,'2b07df74ddbf4c8b922027d661cb4ea8',0,1);
INSERT INTO "metrics" VALUES('train_accuracy',0.5,1700000000001,'fc9237e82b0f4084a757ee7556f0fc99',1,0);
INSERT INTO "metrics" VALUES('train_accuracy',0.8,1700000000002,'fc9237e82b0f4084a757ee7556f0fc99',2,0);
INSERT INTO "metrics" VALUES('test_accuracy',0.99,1700000001000,'fc9237e82b0f4084a757ee7556f0fc99',2,0);
INSERT INTO "metrics" VALUES('odd',0.0,1,'fc9237e82b0f4084a757ee7556f0fc99',0,1);
CREATE TABLE model_version_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY ("key", name, version), 
	FOREIGN KEY(name, version) REFERENCES model_versions (name, version) ON UPDATE cascade
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
	run_link VARCHAR(500), 
	CONSTRAINT model_version_pk PRIMARY KEY (name, version), 
	FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE CASCADE
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('num_layers','34','f28be933710642cca4a4031681ca5290');
INSERT INTO "params" VALUES('seed','0','f28be933710642cca4a4031681ca5290');
INSERT INTO "params" VALUES('num_layers','44','2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "params" VALUES('seed','0','2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "params" VALUES('num_layers','20','fc9237e82b0f4084a757ee7556f0fc99');
INSERT INTO "params" VALUES('seed','0','fc9237e82b0f4084a757ee7556f0fc99');
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
INSERT INTO "registered_models" VALUES('m',1795760972153,1795760972153,NULL);
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
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('f28be933710642cca4a4031681ca5290','depth-34','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/f28be933710642cca4a4031681ca5290/artifacts',1,NULL);
INSERT INTO "runs" VALUES('2b07df74ddbf4c8b922027d661cb4ea8','depth-44','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/2b07df74ddbf4c8b922027d661cb4ea8/artifacts',1,NULL);
INSERT INTO "runs" VALUES('fc9237e82b0f4084a757ee7556f0fc99','depth-20','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','deleted','/data/artifacts/fc9237e82b0f4084a757ee7556f0fc99/artifacts',1,1795760972123);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.runName','depth-34','f28be933710642cca4a4031681ca5290');
INSERT INTO "tags" VALUES('mlflow.user','tester','f28be933710642cca4a4031681ca5290');
INSERT INTO "tags" VALUES('note','x','f28be933710642cca4a4031681ca5290');
INSERT INTO "tags" VALUES('more','y','f28be933710642cca4a4031681ca5290');
INSERT INTO "tags" VALUES('mlflow.runName','depth-44','2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "tags" VALUES('mlflow.user','tester','2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "tags" VALUES('note','x','2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "tags" VALUES('more','y','2b07df74ddbf4c8b922027d661cb4ea8');
INSERT INTO "tags" VALUES('mlflow.runName','depth-20','fc9237e82b0f4084a757ee7556f0fc99');
INSERT INTO "tags" VALUES('mlflow.user','tester','fc9237e82b0f4084a757ee7556f0fc99');
INSERT INTO "tags" VALUES('note','x','fc9237e82b0f4084a757ee7556f0fc99');
INSERT INTO "tags" VALUES('more','y','fc9237e82b0f4084a757ee7556f0fc99');
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
COMMIT;
