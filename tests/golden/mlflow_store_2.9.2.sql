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
INSERT INTO experiments VALUES(0,'Default','/data/mlruns/0','active',1795733643589,1795733643589);
INSERT INTO experiments VALUES(1,'flowers','/data/artifacts','active',1795733643598,1795733643598);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES('acf3f17fdcc7');
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
INSERT INTO tags VALUES('mlflow.runName','depth-34','695850e988994df7aa1320f5d1cee6e3');
INSERT INTO tags VALUES('mlflow.user','tester','695850e988994df7aa1320f5d1cee6e3');
INSERT INTO tags VALUES('note','x','695850e988994df7aa1320f5d1cee6e3');
INSERT INTO tags VALUES('mlflow.runName','depth-44','c7e8ab7394fd4309830d703c65079502');
INSERT INTO tags VALUES('mlflow.user','tester','c7e8ab7394fd4309830d703c65079502');
INSERT INTO tags VALUES('note','x','c7e8ab7394fd4309830d703c65079502');
CREATE TABLE registered_models (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	CONSTRAINT registered_model_pk PRIMARY KEY (name), 
	UNIQUE (name)
);
INSERT INTO registered_models VALUES('m',1795733643833,1795733643833,NULL);
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
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO runs VALUES('695850e988994df7aa1320f5d1cee6e3','depth-34','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/695850e988994df7aa1320f5d1cee6e3/artifacts',1,NULL);
INSERT INTO runs VALUES('c7e8ab7394fd4309830d703c65079502','depth-44','UNKNOWN','','','tester','FINISHED',1700000000000,1700000060000,'','active','/data/artifacts/c7e8ab7394fd4309830d703c65079502/artifacts',1,NULL);
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
	run_link VARCHAR(500), storage_location VARCHAR(500), 
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
INSERT INTO latest_metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,2,0,'695850e988994df7aa1320f5d1cee6e3');
INSERT INTO latest_metrics VALUES('test_accuracy',0.91000000000000003108,1700000001000,2,0,'695850e988994df7aa1320f5d1cee6e3');
INSERT INTO latest_metrics VALUES('odd',0.0,1,0,1,'695850e988994df7aa1320f5d1cee6e3');
INSERT INTO latest_metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,2,0,'c7e8ab7394fd4309830d703c65079502');
INSERT INTO latest_metrics VALUES('test_accuracy',0.93000000000000004884,1700000001000,2,0,'c7e8ab7394fd4309830d703c65079502');
INSERT INTO latest_metrics VALUES('odd',0.0,1,0,1,'c7e8ab7394fd4309830d703c65079502');
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
INSERT INTO metrics VALUES('train_accuracy',0.5,1700000000001,'695850e988994df7aa1320f5d1cee6e3',1,0);
INSERT INTO metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,'695850e988994df7aa1320f5d1cee6e3',2,0);
INSERT INTO metrics VALUES('test_accuracy',0.91000000000000003108,1700000001000,'695850e988994df7aa1320f5d1cee6e3',2,0);
INSERT INTO metrics VALUES('odd',0.0,1,'695850e988994df7aa1320f5d1cee6e3',0,1);
INSERT INTO metrics VALUES('train_accuracy',0.5,1700000000001,'c7e8ab7394fd4309830d703c65079502',1,0);
INSERT INTO metrics VALUES('train_accuracy',0.8000000000000000444,1700000000002,'c7e8ab7394fd4309830d703c65079502',2,0);
INSERT INTO metrics VALUES('test_accuracy',0.93000000000000004884,1700000001000,'c7e8ab7394fd4309830d703c65079502',2,0);
INSERT INTO metrics VALUES('odd',0.0,1,'c7e8ab7394fd4309830d703c65079502',0,1);
CREATE TABLE registered_model_aliases (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (name, alias), 
	CONSTRAINT registered_model_alias_name_fkey FOREIGN KEY(name) REFERENCES registered_models (name) ON DELETE cascade ON UPDATE cascade
);
CREATE TABLE datasets (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
INSERT INTO datasets VALUES('e163e8794db6413da2ed80c6d46e2fc3',1,'pics','d1','local','{"uri": "/data"}',NULL,'{"num_rows": 9}');
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO inputs VALUES('fb8e90dbeaf64ee0b5514bd014071c07','DATASET','e163e8794db6413da2ed80c6d46e2fc3','RUN','695850e988994df7aa1320f5d1cee6e3');
INSERT INTO inputs VALUES('ed5f770004ca459597910507864a4bca','DATASET','e163e8794db6413da2ed80c6d46e2fc3','RUN','c7e8ab7394fd4309830d703c65079502');
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
INSERT INTO input_tags VALUES('fb8e90dbeaf64ee0b5514bd014071c07','mlflow.data.context','test');
INSERT INTO input_tags VALUES('ed5f770004ca459597910507864a4bca','mlflow.data.context','test');
CREATE TABLE IF NOT EXISTS "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO params VALUES('num_layers','34','695850e988994df7aa1320f5d1cee6e3');
INSERT INTO params VALUES('seed','0','695850e988994df7aa1320f5d1cee6e3');
INSERT INTO params VALUES('num_layers','44','c7e8ab7394fd4309830d703c65079502');
INSERT INTO params VALUES('seed','0','c7e8ab7394fd4309830d703c65079502');
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
CREATE INDEX index_latest_metrics_run_uuid ON latest_metrics (run_uuid);
CREATE INDEX index_tags_run_uuid ON tags (run_uuid);
CREATE INDEX index_datasets_experiment_id_dataset_source_type ON datasets (experiment_id, dataset_source_type);
CREATE INDEX index_datasets_dataset_uuid ON datasets (dataset_uuid);
CREATE INDEX index_inputs_destination_type_destination_id_source_type ON inputs (destination_type, destination_id, source_type);
CREATE INDEX index_inputs_input_uuid ON inputs (input_uuid);
CREATE INDEX index_params_run_uuid ON params (run_uuid);
COMMIT;
