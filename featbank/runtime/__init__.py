"""What every room needs: devices, random draws, progress, processes, names."""
