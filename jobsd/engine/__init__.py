"""What makes jobs run: scheduler, claimer, workers, executors, settler, rescuer, alerter."""
