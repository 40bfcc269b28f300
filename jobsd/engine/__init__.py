"""What makes jobs run: scheduler, claimer, worker, executors, settler, rescuer, alerter. Meets people in the database."""
