PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE experiments (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), creation_time BIGINT, last_update_time BIGINT, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	UNIQUE (name)
);
INSERT INTO experiments VALUES(0,'Default','./mlruns/0','active',1795733639524,1795733639524);
INSERT INTO experiments VALUES(1,'flowers','/data/artifacts','active',1795733639547,1795733639547);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES('97727af70f4d');
CREATE TABLE experiment_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
CREATE TABLE IF NOT EXISTS "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO tags VALUES('mlflow.runName','depth-34','c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO tags VALUES('mlflow.user','tester','c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO tags VALUES('note','x','c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO tags VALUES('mlflow.runName','depth-44','e4e1c9edd23a4ee4b0509418bd4eabc8');
INSERT INTO tags VALUES('mlflow.user','tester','e4e1c9edd23a4ee4b0509418bd4eabc8');
INSERT INTO tags VALUES('note','x','e4e1c9edd23a4ee4b0509418bd4eabc8');
CREATE TABLE registered_models (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	CONSTRAINT registered_model_pk PRIMARY KEY (name), 
	UNIQUE (name)
);
INSERT INTO registered_models VALUES('m',1795733639796,1795733639796,NULL);
CREATE TABLE IF NOT EXISTS "runs" (
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
INSERT INTO runs VALUES('c8f4b253c7a942939d2746f70a9d705e','depth-34','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/c8f4b253c7a942939d2746f70a9d705e/artifacts',1,NULL);
INSERT INTO runs VALUES('e4e1c9edd23a4ee4b0509418bd4eabc8','depth-44','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/e4e1c9edd23a4ee4b0509418bd4eabc8/artifacts',1,NULL);
CREATE TABLE registered_model_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY ("key", name), 
	FOREIGN KEY(name) REFERENCES registered_models (name) ON UPDATE cascade
);
CREATE TABLE model_version_tags (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY ("key", name, version), 
	FOREIGN KEY(name, version) REFERENCES model_versions (name, version) ON UPDATE cascade
);
CREATE TABLE IF NOT EXISTS "model_versions" (
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
CREATE TABLE IF NOT EXISTS "latest_metrics" (
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
INSERT INTO latest_metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,2,0,'c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO latest_metrics VALUES('test_accuracy',0.91000000000000003108,1700000001000,2,0,'c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO latest_metrics VALUES('odd',0.0,1,0,1,'c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO latest_metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,2,0,'e4e1c9edd23a4ee4b0509418bd4eabc8');
INSERT INTO latest_metrics VALUES('test_accuracy',0.93000000000000004884,1700000001000,2,0,'e4e1c9edd23a4ee4b0509418bd4eabc8');
INSERT INTO latest_metrics VALUES('odd',0.0,1,0,1,'e4e1c9edd23a4ee4b0509418bd4eabc8');
CREATE TABLE IF NOT EXISTS "metrics" (
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
INSERT INTO metrics VALUES('train_accuracy',0.5,1700000000001,'c8f4b253c7a942939d2746f70a9d705e',1,0);
INSERT INTO metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,'c8f4b253c7a942939d2746f70a9d705e',2,0);
INSERT INTO metrics VALUES('test_accuracy',0.91000000000000003108,1700000001000,'c8f4b253c7a942939d2746f70a9d705e',2,0);
INSERT INTO metrics VALUES('odd',0.0,1,'c8f4b253c7a942939d2746f70a9d705e',0,1);
INSERT INTO metrics VALUES('train_accuracy',0.5,1700000000001,'e4e1c9edd23a4ee4b0509418bd4eabc8',1,0);
INSERT INTO metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,'e4e1c9edd23a4ee4b0509418bd4eabc8',2,0);
INSERT INTO metrics VALUES('test_accuracy',0.93000000000000004884,1700000001000,'e4e1c9edd23a4ee4b0509418bd4eabc8',2,0);
INSERT INTO metrics VALUES('odd',0.0,1,'e4e1c9edd23a4ee4b0509418bd4eabc8',0,1);
CREATE TABLE IF NOT EXISTS "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO params VALUES('num_layers','34','c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO params VALUES('seed','0','c8f4b253c7a942939d2746f70a9d705e');
INSERT INTO params VALUES('num_layers','44','e4e1c9edd23a4ee4b0509418bd4eabc8');
INSERT INTO params VALUES('seed','0','e4e1c9edd23a4ee4b0509418bd4eabc8');
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
COMMIT;
